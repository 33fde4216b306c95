# The worker is woken by commits: once by each, however many rows it has, and by nothing else.
#
# Each time it is woken the worker looks at the table, in a transaction, and at log level debug5 the
# server logs every transaction with the process's id.  With screenshot_task.enabled off it has no other
# transactions, since it sends nothing.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../perl";
use ScreenshotTaskTest;
use Test::More;

use constant ROWS => 100_000;

my $api  = LiveApi->new;
my $node = ScreenshotTaskTest->start_new('main', 'screenshot_task.enabled' => 'off', log_min_messages => 'debug5',
	log_statement => 'none');

$node->add_server('tencent_live', $api);
my $worker = $node->worker_pid;
my $insert = insert_sql();
my $rows   = insert_sql(rows => ROWS, start_time => \"now() + i * interval '1 s'", end_time => \"now() + i * interval '1 s' + interval '1 h'");
my $copy   = "COPY screenshot_task_request (stream_name, domain_name, app_name, end_time, template_id)"
  . " FROM PROGRAM 'yes s,d,a,tomorrow,1 | head -n @{[ROWS]}' (FORMAT csv)";

settled($worker);
is(looks_for($insert, 1), 1, 'a commit wakes the worker');
is(looks_for($rows,   1), 1, 'INSERT ... SELECT of 100,000 rows wakes it once');
is(looks_for($copy,   1), 1, 'so does COPY of as many');
is(looks_for("BEGIN;" . "$insert SAVEPOINT s;" x 20 . "COMMIT", 1), 1, 'and a transaction of many statements');
is(looks_for("BEGIN; $insert SELECT pg_sleep(1); COMMIT", 1), 1, 'nothing wakes it before the commit');
is(looks_for("BEGIN; $rows ROLLBACK", 0), 0, 'a transaction that is rolled back does not wake it');
is(looks_for("BEGIN; SAVEPOINT s; $insert ROLLBACK TO s; COMMIT", 0), 0, 'nor a savepoint that is');
is(looks_for("UPDATE screenshot_task_request SET extension = 'x' WHERE id = 1; SELECT count(*) FROM screenshot_task_request;"
		  . "DELETE FROM screenshot_task_request WHERE id = 1; CREATE TABLE t (a int); INSERT INTO t VALUES (1)", 0),
	0, 'nor anything that is not a request');
is($node->safe_psql('postgres', "SELECT status, count(*) > 2 * @{[ROWS]} FROM screenshot_task_request GROUP BY status"),
	'pending|t', 'all are pending');

# Idle is idle: no transaction, and no waiting that ends, in neither process.
$node->safe_psql('postgres', 'TRUNCATE screenshot_task_request');
$node->set('screenshot_task.enabled' => 'on', log_min_messages => 'warning');
$node->safe_psql('postgres', insert_sql(rows => 3));
ok($node->wait_for_table("status = 'created'"), 'with enabled on all is sent');
my @pids = split /\n/, $node->safe_psql('postgres',
	"SELECT pid FROM pg_stat_activity WHERE backend_type LIKE 'screenshot_task %'");
is(@pids, 2, 'there are a launcher and a worker');
my @before = settled(@pids);
sleep 5;
is_deeply([ map { switches($_) } @pids ], \@before, 'neither of them wakes up in five seconds without work');
is($api->ledger, 3, 'three tasks were made in all');

done_testing();

# How often the worker looks at the table for some SQL.  An insert comes after it, and what comes first is
# looked at first.
sub looks_for
{
	my ($sql, $expected) = @_;
	my $before = looks();

	$node->safe_psql('postgres', $sql);
	wait_until(sub { looks() >= $before + $expected });
	my $seen = looks();
	$node->safe_psql('postgres', $insert);
	wait_until(sub { looks() > $seen });
	return looks() - $before - 1;
}

sub looks
{
	return scalar(() = $node->log_text =~ /\[$worker\] DEBUG:  CommitTransaction\(1\)/g);
}

sub switches
{
	my ($pid) = @_;

	return PostgreSQL::Test::Utils::slurp_file("/proc/$pid/status") =~ /^voluntary_ctxt_switches:\s*(\d+)/m ? $1 : undef;
}

# The switches of processes, once they have come to rest.
sub settled
{
	my (@pids) = @_;
	my @last = (0) x @pids;

	wait_until(sub {
		my @now = map { switches($_) } @pids;
		my $same = "@now" eq "@last";
		@last = @now;
		return $same || !sleep 1;
	});
	return @last;
}
