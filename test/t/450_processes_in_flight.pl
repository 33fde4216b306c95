# While requests are under way the worker has no transaction, no snapshot and no lock open; it takes up new
# requests as there is room, writes down each answer as it comes, and obeys a reload.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../perl";
use ScreenshotTaskTest;
use Test::More;

my $api  = LiveApi->new;
my $node = ScreenshotTaskTest->start_new('main');

$node->add_server('tencent_live', $api, request_timeout => '5min', max_in_flight => 20);

# Eighteen requests are never answered, and have all been sent.
$node->safe_psql('postgres', insert_sql(rows => 18, stream_name => \"'fault:hang#' || i"));
ok($api->wait_for_requests(18, outcome => 'hang'), 'eighteen requests are under way');
my $worker = $node->worker_pid;
my $open   = qq{
	SELECT a.state, a.xact_start, a.backend_xid, a.backend_xmin, a.query, (SELECT count(*) FROM pg_locks AS l WHERE l.pid = a.pid) AS locks,
	(SELECT count(*) FROM screenshot_task_request WHERE status = 'sending') AS sending
	FROM pg_stat_activity AS a WHERE a.pid = $worker};
my %nothing = (state => 'idle', xact_start => undef, backend_xid => undef, backend_xmin => undef, locks => 0, sending => 18);
ok($node->poll_query_until('postgres', "SELECT state = 'idle' FROM ($open) AS o"), 'the worker becomes idle');
for (1 .. 10)
{
	my ($now) = $node->rows($open);

	delete $now->{query};
	is_deeply($now, \%nothing, 'it has no transaction, snapshot or lock open');
	select undef, undef, undef, 0.1;
}
is($node->try('SET lock_timeout = $$10s$$; BEGIN; LOCK TABLE screenshot_task_request IN ACCESS EXCLUSIVE MODE; COMMIT')->{error},
	undef, 'nobody waits for it');
my $before = $node->safe_psql('postgres', 'SELECT pg_current_xact_id()');
is($node->safe_psql('postgres', "SELECT pg_snapshot_xmin(pg_current_snapshot())::text::bigint > $before"), 't', 'nor does a vacuum');

# Others do not wait for those that hang: there is room for two at a time.
$node->safe_psql('postgres', insert_sql(rows => 10, stream_name => \"'quick ' || i"));
ok($node->wait_for_table("status = 'created' AND task_id IS NOT NULL", where => "stream_name LIKE 'quick%'"),
	'quick requests overtake those that hang');
is($node->safe_psql('postgres', "SELECT count(*) FROM screenshot_task_request WHERE status = 'sending'"), 18, 'which still do');

# screenshot_task.enabled, by a reload.  A reload, and a commit of requests, have the worker look at the table.
looks_at_table(sub { $node->set('screenshot_task.enabled' => 'off') }, 'the worker obeys a reload');
looks_at_table(sub { $node->safe_psql('postgres', insert_sql(stream_name => "disabled $_")) }, "the worker is woken by request $_")
  for 1 .. 2;
is_deeply([ map { [ @$_{qw(status attempts)} ] } $node->table("stream_name LIKE 'disabled%'") ], [ ([ 'pending', 0 ]) x 2 ],
	'nothing is claimed while screenshot_task.enabled is off');
is_deeply($node->try(call_sql(stream_name => 'call'))->{error}, undef, 'a call is sent all the same');
is($api->requests(action => 'CreateScreenshotTask'), 18 + 10 + 1, 'and nothing else');
$node->set('screenshot_task.enabled' => 'on');
ok($node->wait_for_table("status = 'created'", where => "stream_name LIKE 'disabled%'"), 'a reload has them sent');

# A limit of requests under way
is_deeply($node->try("ALTER SERVER tencent_live OPTIONS (SET max_in_flight '19')")->{error}, undef, 'max_in_flight is changed');
$node->safe_psql('postgres', insert_sql(rows => 3, stream_name => \"'fault:hang#late ' || i"));
ok($api->wait_for_requests(19, outcome => 'hang'), 'one more hangs');
sleep 2;
is($api->requests(outcome => 'hang'), 19, 'and no more than max_in_flight do');
is($node->safe_psql('postgres', "SELECT count(*) FROM screenshot_task_request WHERE status = 'pending'"), 2, 'the others wait');

# A server that takes in all that it may have and answers nothing leaves room for others.
my $silent  = LiveApi->new('--limit', 1000);
my $sending = "SELECT count(*) FROM screenshot_task_request WHERE status = 'sending'";
$node->add_server('silent', $silent, request_timeout => '5min', max_in_flight => 125, requests_per_second => 1000);
$node->add_server('other', LiveApi->new);
$node->safe_psql('postgres', insert_sql(server => 'silent', rows => 300, stream_name => \"'fault:hang#silent ' || i"));
ok($silent->wait_for_requests(30, outcome => 'hang'), 'a server with many requests under way');
$node->safe_psql('postgres', insert_sql(server => 'other', stream_name => 'other'));
ok($node->wait_for_table("status = 'created'", where => "server = 'other'"), 'does not hold up another');

# Nor do nine of them that the same role sends to, which together could have all that can be under way.
for my $n (1 .. 8)
{
	$node->add_server("silent$n", $silent, request_timeout => '5min', requests_per_second => 1000);
	$node->safe_psql('postgres', insert_sql(server => "silent$n", rows => 60, stream_name => \"'fault:hang#silent ' || i"));
}
ok($node->poll_query_until('postgres', "SELECT count(DISTINCT server) = 9 FROM screenshot_task_request WHERE server LIKE 'silent%' AND status = 'sending'"), 'nine servers with requests under way');
sleep 2;
$node->safe_psql('postgres', insert_sql(server => 'other', rows => 30, stream_name => \"'beside ' || i"));
ok($node->wait_for_table("status = 'created'", where => "stream_name LIKE 'beside %'"), 'do not hold up another');
cmp_ok($node->safe_psql('postgres', $sending), '>=', 90, 'they have most of what their role may have');
cmp_ok($node->safe_psql('postgres', $sending), '<=', 125, 'which is half of what there is');

# Where there are fewer descriptors than it would have, it makes do with those.
my $few = ScreenshotTaskTest->start_new('few', max_files_per_process => 300);
$few->add_server('tencent_live', $api);
$few->safe_psql('postgres', insert_sql(rows => 5, stream_name => \"'few ' || i"));
ok($few->wait_for_table("status = 'created'"), 'with few descriptors there is a worker, and it sends');

done_testing();

# Does the worker take something as a reason to look at the table, and come to rest again?
sub looks_at_table
{
	my ($reason, $name) = @_;
	my $before = $node->safe_psql('postgres', "SELECT state_change FROM pg_stat_activity WHERE pid = $worker");

	$reason->();
	ok($node->poll_query_until('postgres',
			"SELECT state = 'idle' AND state_change > '$before' FROM pg_stat_activity WHERE pid = $worker"), $name);
	return;
}
