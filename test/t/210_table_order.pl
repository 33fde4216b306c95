# When a request is sent: soonest first, not before the API takes it, and not after its end.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../perl";
use ScreenshotTaskTest;
use Test::More;

my $api  = LiveApi->new;
my $node = ScreenshotTaskTest->start_new('main', 'screenshot_task.enabled' => 'off');

$node->add_server('tencent_live', $api, requests_per_second => 1);

# With enabled off nothing is sent.  The requests become due in quite another order than they came in;
# one that starts at once starts when it was requested.
my $hours = sub { \"now() + interval '$_[0] hours'" };
$node->safe_psql('postgres', join '',
	insert_sql(stream_name => 'third', start_time => $hours->(2), end_time => $hours->(3)),
	insert_sql(stream_name => 'fourth', start_time => $hours->(140), end_time => $hours->(141)),
	insert_sql(stream_name => 'second', start_time => $hours->(1), end_time => $hours->(24)),
	insert_sql(stream_name => 'first'));

# Some have ended, or will have before anything is sent.
$node->safe_psql('postgres', insert_sql(rows => 3, stream_name => \"'over ' || i", end_time => \"now() - i * interval '1 h'")
	  . insert_sql(stream_name => 'brief', end_time => \"now() + interval '1 ms'")
	  . insert_sql(stream_name => 'short', start_time => \'now()', end_time => \"now() + interval '1 s'")
	  . 'SELECT pg_sleep(2)');
is_deeply([ $api->requests ], [], 'nothing is sent while screenshot_task.enabled is off');

# The API takes starts of up to six days away, and ends of less than seven.
$node->safe_psql('postgres', join '',
	insert_sql(stream_name => 'opens', start_time => \"now() + interval '6 days 3 s'", end_time => \"now() + interval '6 days 23 hours'"),
	insert_sql(stream_name => 'later', start_time => $hours->(8 * 24), end_time => $hours->(8 * 24 + 1)));
my %waits = map { $_->{stream_name} => $_->{seconds} } $node->rows(
	q{SELECT stream_name, extract(epoch FROM next_attempt_at - (start_time - interval '6 days')) AS seconds
	FROM screenshot_task_request WHERE next_attempt_at IS NOT NULL});
is_deeply([ sort keys %waits ], [ 'later', 'opens' ], 'what starts too late waits');
cmp_ok($waits{later}, '>=', 0, 'until six days before its start');
cmp_ok($waits{later}, '<=', 60, 'and little longer');

$node->set('screenshot_task.enabled' => 'on');
ok($node->wait_for_table(undef, where => "stream_name <> 'later'"), 'with enabled on all goes that may');
my @sent = map { $_->{stream_name} } $api->ledger;
is_deeply([ grep { $_ ne 'opens' } @sent ], [qw(first second third fourth)], 'those that start soonest went first');
is(scalar(grep { $_ eq 'opens' } @sent), 1, 'one that had to wait was sent when its time came');
is($api->requests(outcome => 'TaskId'), $api->requests, 'the API took all that it was sent');

is_deeply(
	[ map { [ @$_{qw(stream_name status attempts sent_at error_message)} ] } $node->table("status = 'expired' AND stream_name <> 'brief'") ],
	[   (map { [ $_, 'expired', 0, undef, 'end_time had passed when the request was made' ] } 'over 1', 'over 2', 'over 3'),
		[ 'short', 'expired', 0, undef, 'end_time passed before the request could be sent' ]
	],
	'what ended before it could be sent is expired, and was not sent');
is($node->safe_psql('postgres', q{SELECT count(finished_at) FROM screenshot_task_request WHERE status = 'expired'}),
	5, 'expired requests have finished');
is_deeply([ map { [ @$_{qw(status attempts)} ] } $node->table("stream_name = 'later'") ],
	[ [ 'pending', 0 ] ], 'what is too early is still pending');

done_testing();
