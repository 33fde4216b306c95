# Requests of the table with a template that does not exist: sent with a warning, or failed, as the server option
# check_template says.  The worker asks for the list of an account once, and again when it meets a template that is not on
# it; it never holds a request back for long.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../perl";
use ScreenshotTaskTest;
use Test::More;

my $api  = LiveApi->new;                # which has template 20001
my $node = ScreenshotTaskTest->start_new('main', restart_after_crash => 'on');
my $list = 'DescribeLiveSnapshotTemplates';
my $warning = sub { "template $_[0] does not exist: the task takes no screenshots; describe_screenshot_templates() lists the templates of the account" };
my $settled = "status NOT IN ('pending', 'sending')";
$node->add_server($_, $api, request_timeout => '3s', connect_timeout => '3s', check_template => $_) for qw(off warn refuse);

# Requests with a template that there is: one list
$node->safe_psql('postgres', insert_sql(server => 'warn', stream_name => 'known', rows => 60));
ok($node->wait_for_table("status = 'created' AND attempts = 1 AND error_message IS NULL"), 'requests whose template exists');
is(scalar $api->requests(action => $list), 1, 'the list is asked for once');
is(scalar $api->requests(stream_name => 'known'), 60, 'each is sent once');
cmp_ok((map { $_->{time} } $api->requests(action => $list))[0], '<', (map { $_->{time} } $api->requests(stream_name => 'known'))[0], 'before the first is sent');

# Templates that do not exist, and none
$node->safe_psql('postgres', insert_sql(server => 'warn', stream_name => 'missing', template_id => 404, rows => 30)
	  . insert_sql(server => 'warn', stream_name => 'missing, too', template_id => 405) . insert_sql(server => 'warn', stream_name => 'none', template_id => 0));
ok($node->wait_for_table("status = 'created' AND attempts = 1"), 'warn: all are created');
is_deeply([ map { $_->{error_message} } $node->table("stream_name = 'missing, too' OR stream_name = 'none'") ], [ $warning->(405), undef ], 'warn: with a warning in the row');
is($node->safe_psql('postgres', "SELECT count(*) FROM screenshot_task_request WHERE stream_name = 'missing' AND error_message = " . literal($warning->(404)) . ' AND error_code IS NULL'), 30, 'warn: in each');
my @told = $node->log_text =~ /LOG:  template 404 of screenshot task request \d+ does not exist\n.*DETAIL:  Server is "warn"\.  Tasks with the template take no screenshots\.  This is logged once for each template\.\n.*HINT:  describe_screenshot_templates\(\) lists/g;
is(scalar @told, 1, 'warn: in the log once');
like($node->safe_psql('postgres', 'SELECT last_error FROM screenshot_task_worker'), qr/^template 40[45] does not exist$/, 'warn: in the view');
cmp_ok(scalar $api->requests(action => $list), '<=', 6, 'the list was asked for a few times');
is($api->ledger(stream_name => 'missing'), 30, 'warn: one task each');

$node->safe_psql('postgres', insert_sql(server => 'refuse', stream_name => 'refused', template_id => 406) . insert_sql(server => 'refuse', stream_name => 'taken'));
ok($node->wait_for_table($settled), 'refuse: settled');
is_deeply([ map { [ @$_{qw(stream_name status error_code error_message attempts)} ] } $node->table("server = 'refuse'") ],
	[ [ 'refused', 'failed', 'TemplateNotFound', 'template 406 does not exist; describe_screenshot_templates() lists the templates of the account', 0 ], [ 'taken', 'created', undef, undef, 1 ] ],
	'refuse: it fails, and others do not');
is(scalar $api->requests(stream_name => 'refused'), 0, 'refuse: nothing is sent');
like($node->log_text, qr/screenshot task request \d+ failed.*\n(?:.*\n)?.*TemplateNotFound/, 'refuse: the log says so');
my $asked = $api->requests(action => $list);
$node->safe_psql('postgres', insert_sql(server => 'off', stream_name => 'off', template_id => 404));
ok($node->wait_for_table($settled), 'off: settled');
is_deeply([ $api->requests(action => $list) - $asked, map { $_->{error_message} } $node->table("server = 'off'") ], [ 0, undef ], 'off: nothing is asked, and nothing said');

# One that is made just before, in the same transaction, is found.
$node->safe_psql('postgres', q{WITH made AS MATERIALIZED (SELECT template_id FROM create_screenshot_template('new', 1, 'b', 'r', server => 'warn'))
	INSERT INTO screenshot_task_request (server, stream_name, domain_name, app_name, end_time, template_id) SELECT 'warn', 'new', 'd', 'live', now() + interval '1 hour', template_id FROM made});
ok($node->wait_for_table($settled), 'a template that was just made');
is_deeply([ map { [ @$_{qw(status error_message)} ] } $node->table("stream_name = 'new'") ], [ [ 'created', undef ] ], 'is known');

# The list cannot be had: requests go all the same, and the log says so once for each account.
for my $fault ('error=UnauthorizedOperation.CamNoAuth', 'error=InvalidAction', 'close', 'hang', 'odd-template=1.5')
{
	my $other = LiveApi->new;
	my $server = 'without_' . ($fault =~ s/\W.*//r) . $other->{port};

	$other->order(fault => $fault, action => $list, times => 0);
	$node->add_server($server, $other, request_timeout => '2s', connect_timeout => '2s', check_template => 'refuse');
	my $offset = $node->log_size;
	$node->safe_psql('postgres', insert_sql(server => $server, template_id => \'i', rows => 25));
	ok($node->wait_for_table("status = 'created' AND attempts = 1 AND error_message IS NULL", where => "server = '$server'"), "$fault: requests are sent unchecked");
	my @said = $node->log_text($offset) =~ /could not list the templates of server "$server": .*\n.*DETAIL:  Templates that are not known to exist are not checked\./g;
	is(scalar @said, 1, "$fault: the log says so once");
	is(scalar $other->requests(action => $list), 1, "$fault: the list is asked for once");
	ok($node->log_text($offset) !~ /for server "$server" are paused/, "$fault: nothing is paused for that");
}

# Another server goes on while a list does not come.
my $slow = LiveApi->new;
$slow->order(fault => 'hang', action => $list, times => 0);
$node->add_server('slow', $slow, request_timeout => '60s', check_template => 'warn');
$node->safe_psql('postgres', insert_sql(server => 'slow', stream_name => 'held') . insert_sql(server => 'warn', stream_name => 'meanwhile', rows => 30));
ok($node->wait_for_table("status = 'created'", where => "stream_name = 'meanwhile'"), 'another server goes on while a list does not come');
is_deeply([ map { [ @$_{qw(status attempts)} ] } $node->table("stream_name = 'held'") ], [ [ 'pending', 0 ] ], 'what waits for it is pending');
$node->safe_psql('postgres', "ALTER SERVER slow OPTIONS (SET check_template 'off')");
ok($node->wait_for_table("status = 'created' AND attempts = 1", where => "stream_name = 'held'"), 'and goes when it need not be checked');

# A crash while it is asked for loses nothing, and does nothing twice.
$api->order(fault => 'delay=1', action => $list, times => 1);
$asked = $api->requests(action => $list);
$node->safe_psql('postgres', insert_sql(server => 'warn', stream_name => 'crash', template_id => 407, rows => 5));
ok($api->wait_for_requests($asked + 1, action => $list), 'the worker asks');
kill 'KILL', $node->worker_pid;
ok(wait_until(sub { ($node->psql('postgres', 'SELECT 1'))[0] == 0 }), 'the server restarts');
ok($node->wait_for_table("status = 'created'", where => "stream_name = 'crash'"), 'nothing is lost');
is($api->ledger(stream_name => 'crash'), 5, 'nor done twice');
is(scalar $_->requests(outcome => 'RequestLimitExceeded'), 0, 'no request is beyond the limit') for $api, $slow;
is($_->complaints, '', 'the stand-in has nothing to complain of') for $api, $slow;

done_testing();
