# Requests that are withdrawn: their tasks are stopped and deleted, and no others.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../perl";
use ScreenshotTaskTest;
use JSON::PP;
use Test::More;

$ENV{PG_TEST_TIMEOUT_DEFAULT} = 60;

# Over HTTP/1.1, so that what breaks a connection is felt by one request alone
my $api  = LiveApi->new('--http1');
my $node = ScreenshotTaskTest->start_new('main', 'screenshot_task.reconcile_grace' => '100ms', 'screenshot_task.reconcile_spacing' => '200ms',
	'screenshot_task.notify_channel' => 'tasks', max_prepared_transactions => 4,
	restart_after_crash => 'on');
$node->add_server('tencent_live', $api, requests_per_second => 200, request_timeout => '2s');
$node->add_server('patient', $api, requests_per_second => 200, request_timeout => '60s', ca_file => $api->ca_file_copy);

my $listener = $node->background_psql('postgres', on_error_stop => 0);
$listener->query_safe('LISTEN tasks');

# Times of a task
my %future  = (start_time => \q{now() + interval '10 min'}, end_time => \q{now() + interval '2 h'});
my %running = (start_time => \q{now() - interval '10 min'}, end_time => \q{now() + interval '1 h'});
my %at_once = (end_time => \q{now() + interval '1 h'});

sub insert
{
	my ($stream, @values) = @_;

	return $node->safe_psql('postgres', insert_sql(stream_name => $stream, @values) =~ s/;\n\z/ RETURNING id/r);
}

sub withdraw { return $node->safe_psql('postgres', join '; ', map { "SELECT withdraw_screenshot_task_request($_)" } @_) }

sub becomes
{
	my ($id, $status) = @_;

	return $node->poll_query_until('postgres', "SELECT status = '$status' FROM screenshot_task_request WHERE id = $id");
}

sub row { return ($node->table("id = $_[0]"))[0] }

# What was done to the tasks of a stream, in order
sub done_to
{
	my ($stream) = @_;
	my %ids = map { ($_->{task_id} => 1) } $api->ledger(event => 'create', stream_name => $stream);

	return join ' ', map { $_->{event} } grep { $ids{ $_->{task_id} } } $api->ledger;
}

# A task that has not begun is deleted; one that runs is stopped first.
my %created = (future => { %future }, running => { %running }, 'at once' => { %at_once });
my %id = map { ($_ => insert($_, %{ $created{$_} })) } sort keys %created;
my $kept = insert('kept', %running);
ok($node->wait_for_table("status = 'created'"), 'tasks are created');
is(withdraw(map { $id{$_} } sort keys %id), join("\n", ('withdrawing') x 3), 'their requests are withdrawn');
for my $stream (sort keys %id)
{
	ok(becomes($id{$stream}, 'withdrawn'), "$stream: it is withdrawn");
	is(done_to($stream), $stream eq 'future' ? 'create delete' : 'create stop delete', 'by what its start asks for');
	my $row = row($id{$stream});
	ok($row->{finished_at} && $row->{withdrawn_at} && $row->{task_id}, 'the row says when, and what');
	is($row->{next_attempt_at} // $row->{error_code} // $row->{error_message}, undef, 'and has nothing left to do');
}
is_deeply([ map { $_->{stream_name} } $api->live ], ['kept'], 'the task of the one that was not is there');
is($node->safe_psql('postgres', "SELECT (wait_for_screenshot_task($id{future})).status"), 'withdrawn', 'who waits is told');
is($node->safe_psql('postgres', 'SELECT created, withdrawn FROM screenshot_task_stat WHERE server = $$tencent_live$$'), '4|3', 'they are counted');
my @told;
ok(wait_until(sub {
		push @told, map { decode_json($_) } ($listener->query('SELECT 1'))[0] =~ /with payload "(\{.*?\})" received/g;
		return 3 == grep { $_->{status} eq 'withdrawn' } @told;
	}), 'and told of');
is_deeply([ sort map { $_->{task_id} } grep { $_->{status} eq 'withdrawn' } @told ], [ sort map { row($_)->{task_id} } values %id ], 'with their tasks');

# About its start it is stopped, and again when it must have begun.
my $soon = insert('soon', start_time => \q{now() + interval '8 s'}, end_time => \q{now() + interval '1 h'});
ok(becomes($soon, 'created'), 'one is created that starts soon');
withdraw($soon);
ok(wait_until(sub { done_to('soon') eq 'create stop' }), 'it is stopped before it has begun, perhaps in vain');
ok($node->poll_query_until('postgres', "SELECT next_attempt_at = start_time + interval '5 s' FROM screenshot_task_request WHERE id = $soon"), 'and is seen to again');
is(row($soon)->{status}, 'withdrawing', 'until then it is withdrawing');
ok(becomes($soon, 'withdrawn'), 'then it is withdrawn');
is(done_to('soon'), 'create stop stop delete', 'by a stop once it runs');

# Withdrawn while it is being sent, whatever comes of that.
my %during = ('fault:delay=1#created' => 'withdrawn', 'fault:error=InvalidParameter#refused' => 'cancelled',
	'fault:error=LimitExceeded.MaximumRunningTask#quota' => 'cancelled', 'fault:close,create#lost' => 'withdrawn', 'fault:close#nothing' => 'cancelled');
insert("fault:delay=1#open $_", %at_once, server => 'patient') for 1 .. 5;
ok($node->wait_for_table("status = 'created'", where => "stream_name LIKE '%#open %'"), 'connections are open');
my %before = map { ($_->{task_id} => 1) } $api->live;
$api->pause;
%id = map { ($_ => insert($_, %running, server => 'patient')) } sort keys %during;
ok($node->poll_query_until('postgres', "SELECT count(*) = 5 FROM screenshot_task_request WHERE status = 'sending'"), 'some are being sent');
is(withdraw(values %id), join("\n", ('sending') x 5), 'and withdrawn meanwhile');
is($node->safe_psql('postgres', "SELECT cancel_screenshot_task_request($id{'fault:close#nothing'})"), 'f', 'none can be cancelled then');
$api->go_on;
ok(becomes($id{$_}, $during{$_}), "$_: $during{$_}") for grep { !/close/ } sort keys %during;
ok(becomes($id{$_}, 'in_doubt'), "$_: in doubt") for grep { /close/ } sort keys %during;
$node->safe_psql('postgres', "ALTER SERVER patient OPTIONS (SET request_timeout '1s')");
$node->safe_psql('postgres', "SELECT retry_screenshot_task_request($id{$_})") for grep { /close/ } sort keys %during;
ok(becomes($id{$_}, $during{$_}), "$_: $during{$_}") for grep { /close/ } sort keys %during;
is_deeply([ grep { !$before{ $_->{task_id} } } $api->live ], [], 'none of them has a task');
is_deeply([ map { $_->{attempts} } grep { $during{ $_->{stream_name} } } $node->table ], [ (1) x 5 ], 'none was sent again');

# Withdrawn while in doubt: found out about, whatever the server's option says of requests that are wanted.
$node->safe_psql('postgres', "ALTER SERVER tencent_live OPTIONS (ADD in_doubt 'resend')");
$node->set('screenshot_task.reconcile_grace' => '3s');
%id = map { ($_ => insert($_, %running)) } 'fault:close,create#doubt 1', 'fault:close#doubt 2';
ok(becomes($id{$_}, 'in_doubt'), "$_: in doubt") for sort keys %id;
is(withdraw(values %id), "in_doubt\nin_doubt", 'they stay so when they are withdrawn');
$node->set('screenshot_task.reconcile_grace' => '100ms');
$node->safe_psql('postgres', "SELECT retry_screenshot_task_request($_)") for values %id;
ok(becomes($id{'fault:close,create#doubt 1'}, 'withdrawn'), 'one has a task, and is withdrawn');
ok(becomes($id{'fault:close#doubt 2'}, 'cancelled'), 'one has none, and is cancelled');
$node->safe_psql('postgres', "ALTER SERVER tencent_live OPTIONS (DROP in_doubt)");

# Of two that are equal, one of them withdrawn, the task is the other's.
$node->set('screenshot_task.reconcile_grace' => '30s');
$api->order(fault => $_, action => 'CreateScreenshotTask', stream => 'equal', times => 1) for 'close,create', 'close';
my @equal = map { insert('equal', start_time => \q{date_trunc('hour', now()) - interval '1 h'}, end_time => \q{date_trunc('hour', now()) + interval '90 min'}) } 1, 2;
ok(becomes($_, 'in_doubt'), 'one of two that are equal is in doubt') for @equal;
withdraw($equal[0]);
ok($node->poll_query_until('postgres', "SELECT bool_and(sent_at < clock_timestamp() - interval '3 s') FROM screenshot_task_request WHERE id IN ($equal[0], $equal[1])"), 'both can be asked about');
$node->set('screenshot_task.reconcile_grace' => '100ms');
$node->safe_psql('postgres', 'BEGIN; ' . join('', map { "SELECT retry_screenshot_task_request($_); " } @equal) . 'COMMIT');
ok(becomes($equal[0], 'cancelled'), 'the one that is withdrawn is cancelled');
ok(becomes($equal[1], 'created'), 'the one that is wanted is created');
is_deeply([ map { $_->{task_id} } $api->live(stream_name => 'equal') ], [ row($equal[1])->{task_id} ], 'and has the one task that lives');
$api->clear_orders;

# In transactions that end otherwise; and a request that is not sent yet.
my $rolled_back = insert('rolled back', %running);
my $prepared = insert('prepared', %running);
my $far = insert('far', start_time => \q{now() + interval '10 days'}, end_time => \q{now() + interval '10 days 1 h'});
ok(becomes($_, 'created'), 'created') for $rolled_back, $prepared;
$node->safe_psql('postgres', "BEGIN; SELECT withdraw_screenshot_task_request($rolled_back); ROLLBACK; BEGIN; SAVEPOINT s; SELECT withdraw_screenshot_task_request($rolled_back); ROLLBACK TO s; COMMIT;"
	  . "BEGIN; SELECT withdraw_screenshot_task_request($prepared); PREPARE TRANSACTION 'p'");
is(withdraw($far), 'cancelled', 'one that is not sent is cancelled');
is(done_to('prepared'), 'create', 'nothing is done before a prepared transaction commits');
$node->safe_psql('postgres', "COMMIT PREPARED 'p'");
ok(becomes($prepared, 'withdrawn'), 'then it is withdrawn');
is(done_to('rolled back'), 'create', 'nothing is done that was rolled back');

# The schedule can be changed while the API cannot be reached, and the tasks follow when it can.
$node->safe_psql('postgres', q{CREATE TABLE event (id integer PRIMARY KEY, stream text, starts timestamptz);
	CREATE TRIGGER screenshots AFTER INSERT OR UPDATE OR DELETE ON event FOR EACH ROW EXECUTE FUNCTION screenshot_task_trigger('stream_name=stream', 'start_time=starts', 'end_time:=tomorrow',
		'reference:=event {id}', 'domain_name:=d', 'app_name:=a', 'template_id:=1');
	INSERT INTO event SELECT i, 'event ' || i, now() FROM generate_series(1, 20) AS i});
ok($node->wait_for_table("status = 'created'", where => "reference LIKE 'event %'"), 'a schedule is created');
$api->stop;
$node->safe_psql('postgres', 'DELETE FROM event WHERE id <= 10; UPDATE event SET stream = $$moved $$ || id WHERE id BETWEEN 11 AND 15; BEGIN; DELETE FROM event; ROLLBACK');
ok($node->poll_query_until('postgres', q{SELECT paused LIKE '%tencent_live%' FROM screenshot_task_worker}), 'it is changed while the API is down, which pauses the server');
$api->start;
ok($node->wait_for_table("status = CASE WHEN withdrawn_at IS NULL THEN 'created' ELSE 'withdrawn' END::screenshot_task_status", where => "reference LIKE 'event %'"), 'once it is up, the tasks follow');
is_deeply([ sort map { $_->{stream_name} } $api->live(domain_name => 'd') ], [ sort((map { "moved $_" } 11 .. 15), map { "event $_" } 16 .. 20) ], 'and are those of the schedule');

# Faults of what stops and deletes
my @faults = qw(close reset half hang status=502 not-json empty error=InternalError error=RequestLimitExceeded error=FailedOperation error=LimitExceeded goaway);
%id = map { ($_ => insert("fault $_", %running)) } @faults;
ok(becomes($_, 'created'), 'created') for values %id;
for my $fault (@faults)
{
	$api->order(fault => $fault, action => $_, times => 1) for qw(StopScreenshotTask DeleteScreenshotTask);
	withdraw($id{$fault});
	ok(becomes($id{$fault}, 'withdrawn'), "$fault: it is withdrawn all the same");
	$api->clear_orders;
}
is_deeply([ grep { /^fault / } map { $_->{stream_name} } $api->live ], [], 'and none of their tasks lives');

# A worker that is killed while it withdraws, with which the server restarts
my $crash = insert('crash', %running);
ok(becomes($crash, 'created'), 'created');
$api->order(fault => 'hang,create', action => 'StopScreenshotTask', times => 1);
withdraw($crash);
ok($node->poll_query_until('postgres', "SELECT sent_at > withdrawn_at FROM screenshot_task_request WHERE id = $crash"), 'it is being stopped');
$listener->quit;
my $pid = $node->worker_pid;
kill 'KILL', $pid;
ok(wait_until(sub { ($node->psql('postgres', "SELECT count(*) FROM screenshot_task_worker WHERE pid <> $pid"))[1] eq '1' }), 'the worker is killed, and another started');
ok(becomes($crash, 'withdrawn'), 'which withdraws it');
is_deeply([ $api->live(stream_name => 'crash') ], [], 'and its task is gone');

# What the API does not offer, or refuses: the row says so, and is created again at its end.
$api->order(fault => 'error=InvalidAction', action => 'StopScreenshotTask');
my $end = insert('refused', end_time => \q{now() + interval '20 s'});
ok(becomes($end, 'created'), 'created');
my $log = $node->log_size;
withdraw($end);
ok($node->poll_query_until('postgres', "SELECT error_code = 'InvalidAction' FROM screenshot_task_request WHERE id = $end"), 'one cannot be stopped');
my $row = row($end);
is($row->{status}, 'withdrawing', 'it stays withdrawing');
like($row->{error_message}, qr/^withdrawing; StopScreenshotTask: /, 'and says why');
my $meanwhile = insert('meanwhile', %at_once);
ok(becomes($meanwhile, 'created'), 'others are created meanwhile');
ok($node->poll_query_until('postgres', 'SELECT withdrawing = 1 AND pauses = 0 FROM screenshot_task_worker'), 'nothing is paused, and it is counted');
ok(becomes($end, 'created'), 'at its end it is created again');
like(row($end)->{error_message}, qr/^could not be withdrawn before its end: withdrawing; StopScreenshotTask: /, 'with the reason');
ok(wait_until(sub { $node->log_text($log) =~ /screenshot task request $end could not be withdrawn/ }), 'of which the log tells');
is(done_to('refused'), 'create', 'its task was let run');
$api->clear_orders;

# Nothing is stopped while workers are told to send nothing, nor is what came in a dump.
$node->set('screenshot_task.enabled' => 'off');
$node->poll_query_until('postgres', q{SELECT state = 'disabled' FROM screenshot_task_worker});
is(withdraw($kept), 'withdrawing', 'one is withdrawn while nothing is sent');
$node->safe_psql('postgres', "UPDATE screenshot_task_request SET stamp = 815 WHERE id = $meanwhile");
my $held = $node->safe_psql('postgres', "BEGIN; CREATE TEMP TABLE dump ON COMMIT DROP AS SELECT * FROM screenshot_task_request WHERE id = $rolled_back; DELETE FROM screenshot_task_request WHERE id = $rolled_back;"
	  . "INSERT INTO screenshot_task_request (id, stream_name, domain_name, app_name, start_time, end_time, template_id, requested_by, requested_at, status, attempts, finished_at, task_id, stamp) OVERRIDING SYSTEM VALUE "
	  . "SELECT id, stream_name, domain_name, app_name, start_time, end_time, template_id, requested_by, requested_at, status, attempts, finished_at, task_id, 815 FROM dump; COMMIT; SELECT withdraw_screenshot_task_request($rolled_back)");
is($held, 'withdrawing', 'one that came in a dump is');
$node->set('screenshot_task.enabled' => 'on');
ok(becomes($kept, 'withdrawn'), 'one is withdrawn once something is sent again');
is(row($rolled_back)->{status}, 'withdrawing', 'the other is held');
is(done_to('rolled back'), 'create', 'and its task is left alone');
is($node->safe_psql('postgres', 'SELECT adopt_screenshot_task_requests()'), 1, 'until it is adopted');
ok(becomes($rolled_back, 'withdrawn'), 'then it is withdrawn');

# No task was ever touched whose request was not withdrawn.
my %withdrawn = map { ($_->{task_id} => 1) } grep { $_->{withdrawn_at} && $_->{task_id} } $node->table;
is_deeply([ grep { $_->{event} ne 'create' && !$withdrawn{ $_->{task_id} } } $api->ledger ], [], 'no other task was touched');
is($api->complaints, '', 'the stand-in has nothing to complain of');

done_testing();
