# Triggers of the owner's that undo what the worker sets, or leave rows out: such a request is neither forgotten nor
# changed without end, the log tells of it, and others are sent meanwhile.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../perl";
use ScreenshotTaskTest;
use Test::More;

use constant WAITING => 1200;

my $api  = LiveApi->new('--limit', 1000);
my $node = ScreenshotTaskTest->start_new('main', 'screenshot_task.reconcile_grace' => '100ms', 'screenshot_task.reconcile_spacing' => '300ms');

$node->add_server('tencent_live', $api, requests_per_second => 500, request_timeout => '3s');
$node->safe_psql('postgres', q{
	CREATE FUNCTION undo() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
		IF NEW.stream_name !~ ('^' || TG_ARGV[0]) OR OLD.status::text <> TG_ARGV[1] THEN
			RETURN NEW;
		ELSIF TG_ARGV[2] = 'all' THEN
			RETURN OLD;
		ELSIF TG_ARGV[2] = 'status' THEN
			NEW.status := OLD.status;
			NEW.task_id := OLD.task_id;
		ELSIF NEW.next_attempt_at IS NULL THEN
			NEW.next_attempt_at := OLD.next_attempt_at;
		END IF;
		RETURN NEW;
	END $$});
my $worker = $node->worker_pid;

for my $what ('status', 'all')
{
	undo("claim $what", 'pending', $what);
	insert("claim $what", 3);
	goes_on("claim $what");
	is_told("claim $what");
	is_deeply([ map { [ @$_{qw(status attempts)} ] } $node->table("stream_name ~ '^claim $what'") ], [ ([ 'pending', 0 ]) x 3 ], "claim $what: the rows are as they were");
	ends_well("claim $what", 3);

	undo("result $what", 'sending', $what);
	insert("result $what", 3);
	ok(wait_until(sub { 3 == grep { $_->{stream_name} =~ /^result $what/ } $api->ledger }), "result $what: there are tasks");
	goes_on("result $what");
	is_told("result $what");
	is_deeply([ map { [ @$_{qw(status task_id)} ] } $node->table("stream_name ~ '^result $what'") ], [ ([ 'sending', undef ]) x 3 ], "result $what: the rows are as they were");
	ends_well("result $what", 3);
}

undo('waiting', 'pending', 'time');
$node->safe_psql('postgres', insert_sql(stream_name => \"'waiting ' || i", rows => WAITING, start_time => \"now() + interval '8 days'", end_time => \"now() + interval '8 days 1 h'")
	  . "UPDATE screenshot_task_request SET start_time = now(), end_time = now() + interval '1 h', next_attempt_at = now() + interval '1 s' WHERE stream_name ~ '^waiting'");
is_told('waiting');
goes_on('waiting');
is($node->safe_psql('postgres', "SELECT count(*) FROM screenshot_task_request WHERE stream_name ~ '^waiting' AND status = 'pending' AND next_attempt_at < now()"), WAITING, 'waiting: the rows are as they were');
ends_well('waiting', WAITING);
is($node->worker_pid, $worker, 'it is the same worker');

# What a worker was sending when it ended
$api->pause;
insert('orphan', 2);
ok($node->wait_for_table("status = 'sending'", where => "stream_name ~ '^orphan'"), 'two are under way');
undo('orphan', 'sending', 'status');
$node->safe_psql('postgres', "SELECT pg_terminate_backend($worker)");
$api->go_on;
ok($node->poll_query_until('postgres', "SELECT count(*) = 1 FROM pg_stat_activity WHERE backend_type = 'screenshot_task worker' AND pid <> $worker"), 'there is another worker');
$worker = $node->worker_pid;
is_told('orphan');
goes_on('orphan');
is_deeply([ map { $_->{status} } $node->table("stream_name ~ '^orphan'") ], [ ('sending') x 2 ], 'orphan: the rows are as they were');
ends_well('orphan', 2);

# A row without a server
$node->safe_psql('postgres', 'ALTER TABLE screenshot_task_request ALTER server DROP NOT NULL; BEGIN;' . insert_sql(stream_name => 'nowhere')
	  . "UPDATE screenshot_task_request SET server = NULL WHERE stream_name = 'nowhere'; COMMIT");
goes_on('nowhere');
is_deeply([ map { $_->{status} } $node->table("stream_name = 'nowhere'") ], ['pending'], 'nowhere: the row is as it was');
is($node->worker_pid, $worker, 'it is the same worker');
$node->safe_psql('postgres', "DELETE FROM screenshot_task_request WHERE stream_name = 'nowhere'");

# Rows that are not let go
$node->safe_psql('postgres', q{
	CREATE FUNCTION keep() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
		RETURN NULL;
	END $$;
	CREATE TRIGGER keep BEFORE DELETE ON screenshot_task_request FOR EACH ROW EXECUTE FUNCTION keep();
	ALTER TABLE screenshot_task_request DROP CONSTRAINT end_time_must_be_at_most_24_hours_after_start_time;
	UPDATE screenshot_task_request SET start_time = NULL, finished_at = now() - interval '10 days', end_time = now() - interval '9 days' WHERE stream_name ~ '^orphan'});
$node->set('screenshot_task.retention' => '7d');
ok(wait_until(sub { $node->log_text =~ /could not remove 2 old screenshot task requests\n.*DETAIL:  a trigger on screenshot_task_request suppressed the DELETE\n/ }), 'what is not let go is told of');
is($node->safe_psql('postgres', "SELECT count(*) FROM screenshot_task_request WHERE stream_name ~ '^orphan'"), 2, 'and is there');
$node->safe_psql('postgres', 'DROP TRIGGER keep ON screenshot_task_request');
$node->reload;
ok($node->poll_query_until('postgres', "SELECT count(*) = 0 FROM screenshot_task_request WHERE stream_name ~ '^orphan'"), 'without the trigger it goes');

unlike($node->log_text, qr/PANIC|terminated by signal/, 'nothing crashed');
is($api->complaints, '', 'the stand-in has nothing to complain of');

done_testing();

sub undo
{
	my (@arguments) = @_;

	$node->safe_psql('postgres', 'CREATE TRIGGER undo BEFORE UPDATE ON screenshot_task_request FOR EACH ROW EXECUTE FUNCTION undo('
		  . join(', ', map { "'$_'" } @arguments) . ')');
	return;
}

sub insert
{
	my ($what, $n) = @_;

	$node->safe_psql('postgres', insert_sql(stream_name => \"'$what ' || i", rows => $n));
	return;
}

sub is_told
{
	my ($what) = @_;
	my $ids = join '|', map { $_->{id} } $node->table("stream_name ~ '^$what'");

	ok(wait_until(sub { $node->log_text =~ /trigger overwrote columns set by the worker in screenshot task request (?:$ids)\n/ }), "$what: the log tells of it");
	return;
}

# Others are sent, and there are few transactions.
sub goes_on
{
	my ($what) = @_;

	insert("beside $what", 20);
	ok($node->wait_for_table("status = 'created'", where => "stream_name ~ '^beside $what'"), "$what: others are created");
	sleep 2;
	cmp_ok($node->transactions_a_second(2), '<', 100, "$what: the worker rests");
	return;
}

# Without the trigger, each becomes the one task that there is of it.
sub ends_well
{
	my ($what, $n) = @_;

	$node->safe_psql('postgres', 'DROP TRIGGER undo ON screenshot_task_request');
	$node->reload;
	ok($node->wait_for_table("status = 'created'", where => "stream_name ~ '^$what'"), "$what: without the trigger, they are created");
	is_deeply([ sort map { $_->{task_id} } $node->table("stream_name ~ '^$what'") ], [ sort map { $_->{task_id} } grep { $_->{stream_name} =~ /^$what/ } $api->ledger(event => 'create') ],
		"$what: the table is the ledger");
	is(scalar(grep { $_->{stream_name} =~ /^$what/ } $api->ledger(event => 'create')), $n, "$what: one task each");
	return;
}
