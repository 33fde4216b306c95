# Circuit breakers: which faults stop what, and how sending begins again.  A domain that is refused stops none of the
# others; answers in a row that leave it open whether a task was made stop the server; and after a pause one request goes
# first, on a fresh connection, and a lookup rather than one that makes a task.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../perl";
use ScreenshotTaskTest;
use Test::More;

my $node = ScreenshotTaskTest->start_new('main', 'screenshot_task.reconcile_grace' => '100ms', 'screenshot_task.reconcile_spacing' => '500ms');
my $api  = LiveApi->new;
$node->add_server('domains', $api, request_timeout => '2s');

# A domain that the account may do nothing with, before one that it may: the latter's requests are created meanwhile.
$api->order(fault => 'error=UnauthorizedOperation.CamNoAuth', stream => 'forbidden*', action => 'CreateScreenshotTask', times => 0);
$node->safe_psql('postgres', insert_sql(server => 'domains', rows => 40, stream_name => 'forbidden', domain_name => 'forbidden.example.com', start_time => \"now() - interval '1 min'")
	  . insert_sql(server => 'domains', rows => 40, stream_name => 'good', domain_name => 'good.example.com'));
ok($node->wait_for_table("status = 'created' AND attempts = 1", where => "stream_name = 'good'"), 'a domain is refused: all of another are created');
cmp_ok($api->requests(stream_name => 'forbidden'), '<=', 40, 'a domain is refused: not each of its requests was tried again meanwhile');
like($node->log_text, qr/LOG:  screenshot tasks of domain "forbidden\.example\.com" and role postgres for server "domains" are paused for 5 s\n.*DETAIL:  UnauthorizedOperation\.CamNoAuth: ordered by a test\n.*HINT:  Check in the console what the account may do with this domain\.  The pause ends at any change of the server, of the user mapping or of the role, and at a reload\.\n/, 'a domain is refused: the log says so');
unlike($node->log_text, qr/screenshot tasks of role postgres for server "domains" are paused/, 'a domain is refused: the role is not paused');
ok($node->poll_query_until('postgres', "SELECT paused LIKE 'domain \"forbidden.example.com\" of role postgres on server \"domains\" until %: UnauthorizedOperation.CamNoAuth: ordered by a test' FROM screenshot_task_worker"), 'a domain is refused: the view says so');
is($node->safe_psql('postgres', "SELECT count(*) FROM screenshot_task_request WHERE stream_name = 'forbidden' AND status = 'pending' AND attempts = 0"), 40, 'a domain is refused: its requests wait, and none is the worse for it');

cmp_ok($node->transactions_a_second(2), '<', 20, 'a domain is refused: the worker does not look for them all the time');

# After its pause one request of it is tried.
my $pauses = pauses_of_domain();
my $tried  = $api->requests(stream_name => 'forbidden');
ok($api->wait_for_requests($tried + 1, stream_name => 'forbidden'), 'a domain is refused: it is tried again');
ok(wait_until(sub { $node->log_text =~ /domain "forbidden\.example\.com" and role postgres for server "domains" are paused for 10 s/ }), 'a domain is refused: and paused for longer');
is($api->requests(stream_name => 'forbidden') - $tried, pauses_of_domain() - $pauses, 'a domain is refused: with one request each time');
$api->clear_orders;
$node->reload;
ok($node->wait_for_table("status = 'created' AND attempts = 1", where => "server = 'domains'"), 'a domain is allowed: a reload has all created');
is(scalar $api->ledger(stream_name => $_), 40, "$_: once each") for 'forbidden', 'good';

# Different domains are refused: the role is paused.  One that is allowed is found all the same.
$node->add_server('role', $api, request_timeout => '2s');
$api->order(fault => 'error=UnauthorizedOperation', stream => 'no *', action => 'CreateScreenshotTask', times => 0);
$node->safe_psql('postgres', join '', map { insert_sql(server => 'role', rows => 20, stream_name => "no $_", domain_name => "$_.example.com", start_time => \"now() - interval '1 min'") } 1, 2);
ok(wait_until(sub { $node->log_text =~ /screenshot tasks of role postgres for server "role" are paused for 5 s\n.*DETAIL:  UnauthorizedOperation: ordered by a test\n/ }), 'different domains are refused: the role is paused');
$node->safe_psql('postgres', insert_sql(server => 'role', rows => 10, stream_name => 'yes', domain_name => 'good.example.com'));
ok($node->wait_for_table("status = 'created'", where => "stream_name = 'yes'"), 'different domains are refused: one that is not goes first after the pause');
$api->clear_orders;
$node->reload;
ok($node->wait_for_table("status = 'created' AND attempts = 1", where => "server = 'role'"), 'different domains are allowed: all are created');

# An outage that is answered with a code: most requests are not sent, although nobody is to look them up.
my $outage = LiveApi->new;
$node->add_server('outage', $outage, in_doubt => 'hold');
$outage->order(fault => 'error=ServiceUnavailable', action => 'CreateScreenshotTask', times => 0);
$node->safe_psql('postgres', insert_sql(server => 'outage', rows => 200, stream_name => \"'outage ' || i"));
ok(wait_until(sub { $node->log_text =~ /screenshot tasks for server "outage" are paused for 5 s\n.*DETAIL:  5 inconclusive answers in a row, the last one: ServiceUnavailable: ordered by a test\n/ }), 'an outage: the server is paused');
ok(wait_until(sub { $node->log_text =~ /screenshot tasks for server "outage" are paused for 10 s\n/ }), 'an outage: and again, for longer');
cmp_ok($outage->requests(action => 'CreateScreenshotTask'), '<=', 32 + 1, 'an outage: no more was sent than what was under way, and one to try it');
is($node->safe_psql('postgres', "SELECT count(*) >= 200 - 33 FROM screenshot_task_request WHERE server = 'outage' AND status = 'pending' AND attempts = 0"), 't', 'an outage: the others wait');
$outage->clear_orders;
$node->reload;
ok($node->wait_for_table("status IN ('created', 'in_doubt')", where => "server = 'outage'"), 'an outage: once it is over all are sent');
is(scalar(grep { $_->{status} eq 'created' } $node->table("server = 'outage'")), scalar $outage->ledger, 'an outage: and created');

# Conclusive answers between: no outage.
$node->add_server('mixed', $api, in_doubt => 'hold');
$api->order(fault => 'error=InternalError', stream => 'mixed bad *', times => 0);
$node->safe_psql('postgres', join '', map { insert_sql(server => 'mixed', stream_name => "mixed " . ($_ % 2 ? 'bad' : 'good') . " $_", start_time => \"now() - interval '1 min' + $_ * interval '1 s'") } 1 .. 24);
ok($node->wait_for_table("status IN ('created', 'in_doubt')", where => "server = 'mixed'"), 'every other answer is ambiguous: all are sent');
unlike($node->log_text, qr/screenshot tasks for server "mixed" are paused/, 'every other answer is ambiguous: nothing is paused');

# After a pause one request goes first, a lookup, on a connection of its own, and the others once it is answered.
my $probed = LiveApi->new;
$node->add_server('probed', $probed, request_timeout => '1s', in_doubt => 'hold');
$probed->order(fault => 'error=InternalError', stream => 'in doubt', action => 'CreateScreenshotTask');
$node->safe_psql('postgres', insert_sql(server => 'probed', stream_name => 'in doubt'));
ok($node->wait_for_table("status = 'in_doubt'", where => "server = 'probed'"), 'a request in doubt');
$probed->order(fault => 'error=UnsupportedRegion', times => 1);
$node->safe_psql('postgres', insert_sql(server => 'probed', rows => 100, stream_name => \"'after ' || i"));
ok(wait_until(sub { $node->log_text =~ /screenshot tasks for server "probed" are paused for 5 s/ }), 'a pause');
ok($node->poll_query_until('postgres', "SELECT count(*) = 0 FROM screenshot_task_request WHERE server = 'probed' AND status = 'sending'"), 'a pause: nothing is under way');
my @before = $probed->requests;
$probed->order(fault => 'delay=2', action => 'DescribeScreenshotTask');
$node->safe_psql('postgres', "ALTER SERVER probed OPTIONS (SET in_doubt 'reconcile', SET request_timeout '20s'); SELECT retry_screenshot_task_request(id) FROM screenshot_task_request WHERE status = 'in_doubt' AND server = 'probed'; UPDATE screenshot_task_request SET sent_at = now() - interval '1 min', next_attempt_at = now() WHERE status = 'in_doubt' AND server = 'probed'");
ok($node->wait_for_table("status = 'created'", where => "server = 'probed'"), 'after the pause: all are created');
my @after  = sort { $a->{time} <=> $b->{time} } $probed->requests;
splice @after, 0, scalar @before;
is($after[0]{action}, 'DescribeScreenshotTask', 'after the pause: a lookup goes first');
cmp_ok($after[1]{time} - $after[0]{time}, '>=', 2, 'after the pause: nothing else before it is answered');
isnt($after[0]{connection}, $before[-1]{connection}, 'after the pause: it has a fresh connection');

# An outcome that cannot be written, since somebody has locked its row, keeps no request from going first.
my $locked = LiveApi->new;
$node->add_server('locked', $locked);
$locked->order(fault => 'delay=2', stream => 'locked row', action => 'CreateScreenshotTask');
$node->safe_psql('postgres', insert_sql(server => 'locked', stream_name => 'locked row'));
ok($locked->wait_for_requests(1, stream_name => 'locked row'), 'a locked row: it is being sent');
my $lock = $node->begin("BEGIN; SELECT id FROM screenshot_task_request WHERE stream_name = 'locked row' FOR UPDATE; SELECT pg_sleep(60)");
ok($node->poll_query_until('postgres', "SELECT EXISTS (SELECT FROM pg_stat_activity WHERE query LIKE '%pg_sleep(60)' AND wait_event = 'PgSleep')"), 'a locked row: it is locked');
ok(wait_until(sub { scalar $locked->ledger }), 'a locked row: its task is made');
$locked->order(fault => 'error=UnsupportedRegion', times => 1);
$node->safe_psql('postgres', insert_sql(server => 'locked', rows => 5, stream_name => 'beside a locked row'));
ok($node->wait_for_table("status = 'created'", where => "stream_name = 'beside a locked row'"), 'a locked row: after a pause the others are created');
is($node->safe_psql('postgres', "SELECT status FROM screenshot_task_request WHERE stream_name = 'locked row'"), 'sending', 'a locked row: while its own outcome is yet to be written');
$node->safe_psql('postgres', "SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE query LIKE '%pg_sleep(60)' AND pid <> pg_backend_pid()");
$lock->end;
ok($node->wait_for_table("status = 'created'", where => "server = 'locked'"), 'a locked row: and it is, then');

# Lookups that are never answered take turns with requests that make tasks, and keep none of them waiting.
my $deaf = LiveApi->new;
$node->add_server('deaf', $deaf, request_timeout => '1s');
$deaf->order(fault => 'status=502', action => 'DescribeScreenshotTask', times => 0);
$deaf->order(fault => 'error=InternalError', stream => 'asked about', action => 'CreateScreenshotTask', times => 3);
$node->safe_psql('postgres', insert_sql(server => 'deaf', rows => 3, stream_name => 'asked about', start_time => \"now() + i * interval '1 min'"));
ok($deaf->wait_for_requests(4, action => 'DescribeScreenshotTask'), 'failing lookups: there are some');
is($node->safe_psql('postgres', "SELECT coalesce(paused, '') LIKE '%\"deaf\"%' FROM screenshot_task_worker WHERE datname = 'postgres'"), 'f', 'failing lookups: they are no reason for a pause');
$deaf->order(fault => 'error=UnsupportedRegion', action => 'CreateScreenshotTask', times => 1);
$node->safe_psql('postgres', insert_sql(server => 'deaf', rows => 40, stream_name => \"'beside lookups ' || i"));
ok(wait_until(sub { $node->log_text =~ /screenshot tasks for server "deaf" are paused for 5 s/ }), 'failing lookups: a pause, for another reason');
ok($node->wait_for_table("status = 'created'", where => "stream_name LIKE 'beside lookups %'"), 'failing lookups: requests are created all the same');
unlike($node->log_text, qr/"deaf" are paused for (?:[2-9]\d|1\d\d) s/, 'failing lookups: after one more pause at most');
$deaf->clear_orders;
$node->reload;
ok($node->wait_for_table("status = 'created'", where => "server = 'deaf'"), 'failing lookups: in the end these are, too');

# A peer that breaks each connection at its second request, and refuses new ones for a while: it goes on, and pauses do not grow.
my $breaking = LiveApi->new;
$node->add_server('breaking', $breaking, request_timeout => '1s');
$breaking->order(fault => 'reuse-close-refuse=1', times => 0);
my $offset = $node->log_size;
$node->safe_psql('postgres', insert_sql(server => 'breaking', rows => 12, stream_name => \"'breaking ' || i"));
ok($node->wait_for_table("status = 'created'", where => "server = 'breaking'"), 'a peer that breaks each connection: all are created');
is_deeply([ map { scalar $breaking->ledger(stream_name => "breaking $_") } 1 .. 12 ], [ (1) x 12 ], 'a peer that breaks each connection: once each');
unlike($node->log_text($offset), qr/"breaking" are paused for (?:[2-9]\d|1\d\d) s/, 'a peer that breaks each connection: pauses do not grow');
is($_->complaints, '', 'the stand-in has nothing to complain of') for $api, $outage, $probed, $locked, $deaf, $breaking;

done_testing();

sub pauses_of_domain { return scalar(() = $node->log_text =~ /screenshot tasks of domain "forbidden\.example\.com" and role postgres .* are paused/g) }
