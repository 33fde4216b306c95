# Who waits for a permit has it in the order of arrival, the worker being one of those who wait.  A call says so after a
# while; and with permit_timeout it does not wait for too long.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../perl";
use ScreenshotTaskTest;
use Test::More;

use constant CALLERS => 22;

my $api  = LiveApi->new;
my $node = ScreenshotTaskTest->start_new('main');

# One request a second, and a backlog of the table: the worker always waits.
$node->add_server('slow', $api, requests_per_second => 1);
$node->add_server('impatient', $api, requests_per_second => 1, permit_timeout => '100ms');
$node->add_server('patient', $api, requests_per_second => 1, permit_timeout => '1h');
$node->safe_psql('postgres', insert_sql(server => 'slow', stream_name => \"'row ' || i", rows => 40));
ok($api->wait_for_requests(2), 'a backlog is being sent');

# The first comes first.  One of them is cancelled meanwhile, another one terminated.  All is ordered from within the
# server, so that it takes less time than the calls.
$node->safe_psql('postgres', 'CREATE TABLE gate AS SELECT 0 AS n');
my @sessions = map {
	$node->begin("SET application_name = 'caller $_'; DO \$\$ BEGIN WHILE (SELECT n FROM gate) < $_ LOOP PERFORM pg_sleep(0.01); END LOOP; END \$\$;"
		  . call_sql(server => $_ == 2 ? 'patient' : 'slow', stream_name => "call $_"))
} 1 .. CALLERS;
ok($node->poll_query_until('postgres', "SELECT count(*) = @{[CALLERS]} FROM pg_stat_activity WHERE application_name LIKE 'caller %'"), 'all sessions are there');
$node->safe_psql('postgres', "DO \$\$ BEGIN
	FOR i IN 1..@{[CALLERS]} LOOP
		UPDATE gate SET n = i;
		COMMIT;
		WHILE EXISTS (SELECT FROM pg_stat_activity WHERE application_name = 'caller ' || i AND wait_event_type IS DISTINCT FROM 'Extension') LOOP
			PERFORM pg_sleep(0.005);
			PERFORM pg_stat_clear_snapshot();
		END LOOP;
	END LOOP;
	PERFORM pg_cancel_backend(pid) FROM pg_stat_activity WHERE application_name = 'caller 19';
	PERFORM pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'caller 20';
END \$\$");

# A call that would wait for too long
my $error = $node->try(call_sql(server => 'impatient', stream_name => 'impatient'))->{error};
is_deeply([ @$error{qw(sqlstate message hint)} ], [ '53400', 'the rate limit of server "impatient" would delay the call for too long',
	'Insert the request into screenshot_task_request to have it sent in the background.' ], 'permit_timeout: the call gives up');
my ($seconds) = $error->{detail} =~ /^The call would wait for another (\d+\.\d) s; the server option "permit_timeout" is 100 ms\.$/;
cmp_ok($seconds // 0, '>=', 1, 'permit_timeout: and says how long it would have waited') or diag($error->{detail});

# A call that waits for long says so.
my $notices = '';
is($node->psql('postgres', call_sql(server => 'slow', stream_name => 'noticed'), stderr => \$notices), 0, 'a call that waits for long succeeds');
is($notices =~ s/^psql:<stdin>:\d+: //gmr, qq(NOTICE:  still waiting for the rate limit of server "slow"\nDETAIL:  It allows 1 request a second, for all sessions and workers together.), 'and says that it waits');

my @results = map { $_->end } @sessions;
is($results[18]{error}{sqlstate}, '57014', 'a call that waits can be cancelled');
is($results[19]{error}{sqlstate}, '57P01', 'and terminated');
is_deeply([ grep { defined } map { $_->{error} } @results[ 0 .. 17, 20, 21 ] ], [], 'no other fails');
is_deeply([ map { $_->{stream_name} } grep { $_->{stream_name} =~ /^call/ } $api->requests ], [ map { "call $_" } 1 .. 18, 21, 22 ], 'calls go in the order in which they came');
cmp_ok(scalar(() = grep { $_->{stream_name} =~ /^row/ } $api->requests), '>', 2, 'and the worker among them');
is($api->ledger(stream_name => $_), 0, "$_: not sent") for 'call 19', 'call 20', 'impatient';

# Sessions that are terminated while they wait leave no place behind that others would wait for,
$node->add_server('hasty', $api, requests_per_second => 1, permit_timeout => '12s');
my @waiting = map { $node->begin("SET application_name = 'waits'; " . call_sql(server => 'slow', stream_name => 'waits')) } 1 .. 30;
ok($node->poll_query_until('postgres', "SELECT count(*) >= 25 FROM pg_stat_activity WHERE application_name = 'waits' AND wait_event_type = 'Extension'"), 'thirty calls wait');
$error = $node->try("DO \$\$ BEGIN
		PERFORM pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'waits';
		WHILE EXISTS (SELECT FROM pg_stat_activity WHERE application_name = 'waits') LOOP PERFORM pg_sleep(0.005); PERFORM pg_stat_clear_snapshot(); END LOOP;
	END \$\$;" . call_sql(server => 'hasty', stream_name => 'hasty'))->{error};
is_deeply($error, undef, 'once they are terminated another one need not wait for them');
$_->end for @waiting;

# nor a permit that nobody else can take, while they connect.
$node->safe_psql('postgres', "DELETE FROM screenshot_task_request WHERE status = 'pending'");
$node->wait_for_table("status = 'created'");
my $began = time;
for my $n (1 .. 8)
{
	my $connections = connections();

	$api->order(fault => 'hang-handshake', times => 1);
	my $holder = $node->begin("SET application_name = 'connects'; " . call_sql(server => 'slow', stream_name => 'connects'));
	ok(wait_until(sub { connections() > $connections }), "call $n has a permit, and connects");
	$node->safe_psql('postgres', "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'connects'");
	is($holder->end->{error}{sqlstate}, '57P01', "call $n is terminated");
}
cmp_ok(time - $began, '<', 45, 'none of eight that are terminated keeps its permit');
cmp_ok($api->most_in_a_second, '<=', 1, 'the limit is kept');
is($api->requests(outcome => 'RequestLimitExceeded'), 0, 'and the API refuses none');
is($api->complaints, '', 'the stand-in has nothing to complain of');

done_testing();

# How many connections to the stand-in are made, by clients
sub connections
{
	my $remote = sprintf '0100007F:%04X', $api->{port};

	return scalar(() = PostgreSQL::Test::Utils::slurp_file('/proc/net/tcp') =~ / $remote 01 /g);
}
