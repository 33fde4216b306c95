# Fifty requests of one transaction and thirty calls of ten sessions at the same time keep the limit of
# twenty in any second, and become eighty tasks: with all connections new, in a burst after a rest, and with
# slow TLS handshakes; over both versions of HTTP.  So is one of hundreds that changes meanwhile.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../perl";
use ScreenshotTaskTest;
use Test::More;
use Time::HiRes qw(sleep);

my $node = ScreenshotTaskTest->start_new('main');

for my $options ([], ['--http1'])
{
	my $http = @$options ? 'HTTP/1.1' : 'HTTP/2';
	my $api  = LiveApi->new(@$options);
	my ($first, $second) = @$options ? ('s3', 's4') : ('s1', 's2');

	# Servers of different ca_files have connections of their own.
	$node->add_server($_, $api, ca_file => $api->ca_file_copy) for $first, $second;
	compete($http, 'at first', $api, $first);
	sleep 2;
	compete($http, 'after a rest', $api, $first);
	$api->order(fault => 'slow-handshake=0.7', times => 0);
	compete($http, 'slow handshakes', $api, $second);

	is($api->most_in_a_second, 20, "$http: the limit is used, and kept, in every second");
	is($api->complaints, '', "$http: the stand-in has nothing to complain of");
}

# Each time that the API refuses a request, a smaller part of the limit is used for a while.
my $strict = LiveApi->new;
$node->add_server('strict', $strict, requests_per_second => 5);
$strict->order(fault => 'error=RequestLimitExceeded', stream => 'refused', times => 5);
$node->safe_psql('postgres', insert_sql(server => 'strict', stream_name => 'refused'));
ok($node->wait_for_table("status = 'created'", where => "server = 'strict'"), 'a request that was refused five times is created');
$node->safe_psql('postgres', insert_sql(server => 'strict', stream_name => 'afterwards', rows => 10));
ok($node->wait_for_table("status = 'created'", where => "server = 'strict'"), 'and others afterwards');
cmp_ok($node->safe_psql('postgres', "SELECT min(extract(epoch FROM after)) FROM (SELECT sent_at - lag(sent_at, 5) OVER (ORDER BY sent_at) AS after FROM screenshot_task_request WHERE stream_name = 'afterwards') AS s"),
	'>', 1.02, 'less than the limit is used for a while');

# A session that cannot connect holds its permit for some seconds.  The worker waits for that permit without asking all the time.
my $api = LiveApi->new;
$node->add_server('backlog', $api, requests_per_second => 5);
$node->add_server('mute', $api, requests_per_second => 5, connect_timeout => '5s', ca_file => $api->ca_file_copy);
$node->safe_psql('postgres', insert_sql(server => 'backlog', stream_name => \"'backlog ' || i", rows => 60));
ok($node->poll_query_until('postgres', "SELECT count(*) > 5 FROM screenshot_task_request WHERE status = 'created'"), 'a backlog');
$api->order(fault => 'hang-handshake');
my $call  = $node->begin(call_sql(server => 'mute'));
sleep 2;
cmp_ok($node->transactions_a_second(2), '<', 200, 'a permit that is held: the worker does not spin');
is($call->end->{error}{sqlstate}, '08001', 'its session could not connect');
ok($node->wait_for_table, 'all requests end');
cmp_ok($api->most_in_a_second, '<=', 5, 'at the limit');

# A limit that changes is not passed for it.
my $wide = LiveApi->new('--limit', 257);
$node->add_server('wide', $wide, requests_per_second => 256, max_in_flight => 125);
$node->safe_psql('postgres', insert_sql(server => 'wide', stream_name => \"'wide ' || i", rows => 1800));
for (my $limit = 257; $node->safe_psql('postgres', "SELECT count(*) FROM screenshot_task_request WHERE status = 'pending'") > 0; $limit = 513 - $limit)
{
	$node->safe_psql('postgres', "ALTER SERVER wide OPTIONS (SET requests_per_second '$limit')");
	sleep 0.7;
}
ok($node->wait_for_table, 'a limit that changes: all requests end');
is(scalar(grep { $_->{outcome} ne 'TaskId' } $wide->requests), 0, 'the API refuses none');
cmp_ok($wide->most_in_a_second, '<=', 257, 'at no time are there more than the higher one');

done_testing();

sub compete
{
	my ($http, $when, $api, $server) = @_;
	my $label    = "$http, $when";
	my @sessions = map {
		my $session = "$when, session $_";
		$node->begin(join '', map { call_sql(server => $server, stream_name => "$session, call $_") } 1 .. 3)
	} 1 .. 10;
	$node->safe_psql('postgres',
		'BEGIN;' . insert_sql(rows => 50, server => $server, stream_name => \"'$when, row ' || i") . 'COMMIT');
	my @results = map { $_->end } @sessions;
	ok($node->wait_for_table, "$label: all requests end");

	my @tasks = grep { $_->{stream_name} =~ /^\Q$when\E, / } $api->ledger;
	is_deeply([ sort map { $_->{stream_name} } @tasks ],
		[ sort((map { "$when, row $_" } 1 .. 50), map { my $s = $_; map { "$when, session $s, call $_" } 1 .. 3 } 1 .. 10) ],
		"$label: each has become one task");
	is_deeply([ grep { defined } map { $_->{error} } @results ], [], "$label: no call fails");
	is_deeply([ sort map { $_->[0] } map { @{ $_->{rows} } } @results ],
		[ sort map { $_->{task_id} } grep { $_->{stream_name} =~ /session/ } @tasks ],
		"$label: the TaskIds that the calls returned are the ledger's");
	is_deeply(
		[ map { [ @$_{qw(task_id status attempts)} ] } $node->rows('SELECT * FROM screenshot_task_request ORDER BY task_id COLLATE "C"') ],
		[ map { [ $_, 'created', 1 ] } sort map { $_->{task_id} } grep { $_->{stream_name} =~ /row/ } @tasks ],
		"$label: so are those in the table");
	is_deeply([ grep { $_->{outcome} ne 'TaskId' } $api->requests ], [], "$label: the API refused none, for its limit or its signature");
	$node->safe_psql('postgres', 'TRUNCATE screenshot_task_request');
	return;
}
