# A worker that is terminated or killed is followed by another.  What it was sending is in doubt, and not
# sent again; what was pending is sent.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../perl";
use ScreenshotTaskTest;
use Test::More;
use Time::HiRes qw(time);

my $api  = LiveApi->new;
my $node = ScreenshotTaskTest->start_new('main', restart_after_crash => 'on');

# All answers take long, and only so many requests are under way at a time.
$node->add_server('tencent_live', $api, request_timeout => '5min', max_in_flight => 10);

ends_by('pg_terminate_backend', sub { $node->safe_psql('postgres', "SELECT pg_terminate_backend($_[0])") });
like($node->log_text, qr/FATAL:  terminating background worker "screenshot_task worker" due to administrator command/,
	'the log says who ended it');
unlike($node->log_text, qr/terminated by signal/, 'and it was not a crash');

my $offset = $node->log_size;
ends_by('kill -9', sub { kill 'KILL', $_[0] });
like($node->log_text($offset), qr/background worker "screenshot_task worker" \(PID \d+\) was terminated by signal 9/,
	'the server has recovered from a crash');

# The launcher, too
my $launcher = q{SELECT pid FROM pg_stat_activity WHERE backend_type = 'screenshot_task launcher'};
my $before   = $node->safe_psql('postgres', $launcher);
my $worker   = $node->worker_pid;
$node->safe_psql('postgres', "SELECT pg_terminate_backend($before)");
ok($node->poll_query_until('postgres', "SELECT pid <> $before FROM ($launcher) AS l"), 'a launcher is followed by another');
is($node->worker_pid, $worker, 'the worker does not mind');
$node->safe_psql('postgres', "SELECT pg_terminate_backend($worker)");
ok(next_worker($worker), 'and is known to the new one');
$node->safe_psql('postgres', insert_sql(stream_name => 'last'));
ok($node->wait_for_table("status = 'created'", where => "stream_name = 'last'"), 'a request is sent');
is($api->complaints, '', 'the stand-in has nothing to complain of');

done_testing();

sub ends_by
{
	my ($name, $end) = @_;
	my $worker = $node->worker_pid;

	# Ten are sent, of which the API carries out some; five wait.
	$api->order(fault => 'hang,create', stream => "$name 1*", times => 0);
	$api->order(fault => 'hang', stream => "$name *", times => 0);
	$node->safe_psql('postgres', insert_sql(rows => 15, stream_name => \"'$name ' || i"));
	ok($api->wait_for_requests(10, outcome => 'hang') && $node->poll_query_until('postgres',
			"SELECT count(*) = 10 FROM screenshot_task_request WHERE status = 'sending'"), "$name: ten requests are under way");
	my @sent = $node->rows("SELECT stream_name FROM screenshot_task_request WHERE status = 'sending' ORDER BY id");
	$api->clear_orders;

	my $began = time;
	$end->($worker);
	ok(next_worker($worker), "$name: a worker follows");
	ok($node->wait_for_table, "$name: all requests end");
	cmp_ok(time - $began, '<', 120, "$name: long before the time-out of ten minutes");
	my @doubtful = $node->table("status = 'in_doubt'");
	is_deeply([ map { $_->{stream_name} } @doubtful ], [ map { $_->{stream_name} } @sent ],
		"$name: what was under way is in doubt");
	is_deeply([ map { [ @$_{qw(attempts task_id)}, $_->{error_message} =~ /^worker exited while the request was in flight; outcome unknown$/ ] } @doubtful ],
		[ ([ 1, undef, 1 ]) x 10 ], "$name: and says why");
	is($node->safe_psql('postgres', "SELECT count(*) FROM screenshot_task_request WHERE status = 'created' AND attempts = 1"), 5,
		"$name: what was pending is created");

	# One more goes after all of them: what was to be sent again would have been sent.
	$node->safe_psql('postgres', insert_sql(stream_name => "after $name"));
	$node->wait_for_table;
	my @arrived = grep { /^\Q$name\E / } map { $_->{stream_name} } $api->requests;
	is_deeply([ sort @arrived ], [ sort map { "$name $_" } 1 .. 15 ], "$name: each request has arrived once");
	$node->safe_psql('postgres', 'TRUNCATE screenshot_task_request');
	return;
}

# Wait for a worker that is another one.  The server may be recovering.
sub next_worker
{
	my ($pid) = @_;

	return $node->poll_query_until('postgres',
		"SELECT EXISTS (SELECT FROM pg_stat_activity WHERE backend_type = 'screenshot_task worker' AND pid <> $pid)");
}
