# A fast shutdown with twenty requests of the worker and ten calls under way, none of which is ever
# answered, does not wait for them.  After it the requests are in doubt, and none is sent again.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../perl";
use ScreenshotTaskTest;
use Test::More;
use Time::HiRes qw(time);

my $api  = LiveApi->new;
my $node = ScreenshotTaskTest->start_new('main');

$node->add_server('tencent_live', $api, request_timeout => '5min');

# Of the requests every other one becomes a task, which nobody is told of.
$node->safe_psql('postgres',
	insert_sql(rows => 20, stream_name => \"'fault:hang' || CASE WHEN i % 2 = 0 THEN ',create' ELSE '' END || '#' || i"));
my @sessions = map { $node->begin(call_sql(stream_name => "fault:hang#session $_")) } 1 .. 10;
ok($api->wait_for_requests(30, outcome => 'hang'), 'thirty requests hang');
is_deeply([ map { [ @$_{qw(status attempts)} ] } $node->table ], [ ([ 'sending', 1 ]) x 20 ], 'twenty rows are being sent');

my $began = time;
$node->stop('fast');
cmp_ok(time - $began, '<', 30, 'a fast shutdown does not wait for the ten minutes of the time-out');
is_deeply([ map { $_->end->{error}{sqlstate} } @sessions ], [ ('57P01') x 10 ], 'the calls were terminated');

my $offset = $node->log_size;
$node->start;
ok($node->wait_for_table, 'the next worker sees to the requests');
is_deeply(
	[ map { [ @$_{qw(status attempts task_id error_code error_message)} ] } $node->table ],
	[   (   [   'in_doubt', 1, undef, undef,
				'worker exited while the request was in flight; outcome unknown'
			]
		) x 20
	],
	'all are in doubt, and say why');
is(scalar(grep { defined $_->{sent_at} && !defined $_->{finished_at} } $node->table), 20, 'when they were sent is kept');
like($node->log_text($offset), qr/LOG:  20 screenshot task requests are in doubt: worker exited while they were in flight\n/,
	'the log tells of them');

# What comes later is sent; what is in doubt is not.
$node->safe_psql('postgres', insert_sql(stream_name => 'later'));
ok($node->wait_for_table(undef, where => "stream_name = 'later'"), 'a new request is sent');
is_deeply([ sort map { $_->{stream_name} } $api->requests(connection => ($api->requests(stream_name => 'later'))[0]{connection}) ],
	['later'], 'and nothing else');
is($api->requests, 31, 'thirty-one requests have arrived in all');
is($api->ledger,   11, 'and made those tasks that they were to make');

done_testing();
