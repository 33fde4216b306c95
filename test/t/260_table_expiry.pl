# A sweep expires requests whose end has passed and that nobody sends, however many others there are before and behind.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../perl";
use ScreenshotTaskTest;
use Test::More;

my $api  = LiveApi->new;
my $node = ScreenshotTaskTest->start_new('main', 'screenshot_task.enabled' => 'off');
my $soon = \"now() + interval '6 s'";

$node->add_server($_, $api) for 'first', 'second';
$node->safe_psql('postgres', join '', map { "CREATE ROLE $_; GRANT INSERT ON screenshot_task_request TO $_; GRANT USAGE ON FOREIGN SERVER first, second TO $_;" } 'app', 'other');
my $ends = sub {
	my ($role, $server, $rows, %task) = @_;
	return "SET ROLE $role;" . insert_sql(server => $server, stream_name => 'ends', rows => $rows, end_time => $soon, %task);
};
my $stays = sub {
	my ($role, $server, $rows, %task) = @_;
	return "SET ROLE $role;" . insert_sql(server => $server, stream_name => 'stays', rows => $rows, end_time => \"now() + interval '5 h'", %task);
};
$node->safe_psql('postgres', $ends->('app', 'first', 2) . $stays->('app', 'first', 2500) . $ends->('app', 'first', 1100)
	  . $stays->('other', 'first', 1500, start_time => \"now() + interval '5 d'", end_time => \"now() + interval '5 d 1 h'") . $ends->('app', 'second', 3)
	  . $stays->('other', 'second', 10));
$node->set('screenshot_task.sweep_interval' => '1s');
ok($node->wait_for_table("status = 'expired' AND finished_at IS NOT NULL AND error_message = 'end_time passed before the request could be sent'",
	where => "stream_name = 'ends'"), 'all whose end has passed expire');
is($node->safe_psql('postgres', "SELECT count(*) FROM screenshot_task_request WHERE stream_name = 'ends'"), 1105, 'so many');
is($node->safe_psql('postgres', "SELECT count(*) FROM screenshot_task_request WHERE stream_name = 'stays' AND status = 'pending'"), 4010, 'and no others');
ok($node->poll_query_until('postgres', 'SELECT sum(expired) = 1105 FROM screenshot_task_stat'), 'they are counted');

# A trigger keeps one from being changed: the others expire.
$node->refuse("NEW.reference = 'stubborn'", 'NEW.reference');
$node->safe_psql('postgres', $ends->('app', 'second', 1, reference => 'stubborn') . $ends->('app', 'second', 3, reference => \"'pliant ' || i"));
ok($node->wait_for_table("status = 'expired'", where => "reference ~ 'pliant'"), 'a trigger refuses one: the others expire');
is($node->safe_psql('postgres', "SELECT status FROM screenshot_task_request WHERE reference = 'stubborn'"), 'pending', 'it is as it was');
ok($node->wait_for_log(qr/could not update screenshot task request \d+; skipping it for a minute\n.*DETAIL:  not stubborn/), 'the log says why');
$node->safe_psql('postgres', 'DROP TRIGGER refuse ON screenshot_task_request');
$node->reload;
ok($node->wait_for_table("status = 'expired'", where => "stream_name = 'ends'"), 'without the trigger it expires');
is(scalar(() = $api->requests), 0, 'nothing was sent');

# Those that have ended as they become known use up nobody's limit, though their turn comes first; and no sweep is waited for.
$node->set('screenshot_task.enabled' => 'on', 'screenshot_task.sweep_interval' => '1h');
$node->safe_psql('postgres', 'TRUNCATE screenshot_task_request');
$node->restart;
ok($node->poll_query_until('postgres', "SELECT count(*) = 1 FROM screenshot_task_worker WHERE state = 'idle'"), 'the first sweep is over');
$node->add_server('slow', $api, requests_per_second => 1);
$node->safe_psql('postgres', "GRANT USAGE ON FOREIGN SERVER slow TO app, other; SET ROLE app;" . insert_sql(server => 'slow', stream_name => 'now 0'));
ok($node->wait_for_table("status = 'created'"), 'one is created, so that the server is known');
$node->safe_psql('postgres', 'BEGIN; SET ROLE other;' . insert_sql(server => 'slow', stream_name => 'long ago', rows => 10_000)
	  . "RESET ROLE; UPDATE screenshot_task_request SET start_time = '2000-01-01 00:00Z', end_time = '2000-01-01 01:00Z' WHERE stream_name = 'long ago';"
	  . 'SET ROLE app;' . insert_sql(server => 'slow', stream_name => \"'now ' || i", rows => 3) . 'COMMIT');
ok($node->wait_for_table("status = 'created' AND attempts = 1", where => "stream_name ~ '^now'"), 'behind thousands that have ended others are created');
ok($node->wait_for_table("status = 'expired' AND attempts = 0", where => "stream_name = 'long ago'"), 'the others expire');
is(scalar(() = $api->requests(stream_name => 'long ago')), 0, 'and were not sent');

# Those that have ended as they are inserted are no error, and nothing for the worker.
my $counted = $node->safe_psql('postgres', 'SELECT sum(expired) FROM screenshot_task_stat');
my @past = (start_time => \"'2000-01-01 00:00Z'", end_time => \"'2000-01-01 01:00Z'");
is($node->safe_psql('postgres', 'BEGIN; SET LOCAL ROLE app;' . insert_sql(server => 'slow', stream_name => 'import', rows => 1000, @past) . insert_sql(server => 'slow', stream_name => 'import', end_time => \"now() - interval '1 s'")
	  . q{SELECT count(*) FROM screenshot_task_request WHERE stream_name = 'import' AND status = 'expired' AND finished_at >= now() AND attempts = 0 AND next_attempt_at IS NULL
		AND error_message = 'end_time had passed when the request was made'}), 1001, 'past events are imported, and expired at once');
my $notice;
is($node->psql('postgres', q{SELECT enqueue_screenshot_task('past', '5000.live.push.com', 'live', now() - interval '1 h', 1, server => 'slow')}, stderr => \$notice), 0, 'one is enqueued');
like($notice, qr/^psql:<stdin>:1: NOTICE:  screenshot task request \d+ has expired: its end_time has passed\nDETAIL:  The request is kept but not sent\.$/, 'and a notice says so');
is($node->safe_psql('postgres', "SELECT status FROM screenshot_task_request WHERE stream_name = 'past'"), 'expired', 'as does its row');
is($node->safe_psql('postgres', 'SELECT sum(expired) FROM screenshot_task_stat'), $counted, 'they are not counted as lost');
is(scalar(() = $api->requests(stream_name => $_)), 0, "$_: nothing is sent") for 'import', 'past';
is($api->complaints, '', 'the stand-in has nothing to complain of');

done_testing();
