# Prepared transactions, savepoints, exceptions and procedures wake the worker when what they did is committed, and
# never otherwise.
#
# Each time it is woken the worker looks at the table, in a transaction, and at log level debug5 the server logs
# every transaction with the process's id.  With screenshot_task.enabled off it has no others.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../perl";
use ScreenshotTaskTest;
use Test::More;

my $api  = LiveApi->new;
my $node = ScreenshotTaskTest->start_new('main', 'screenshot_task.enabled' => 'off', log_min_messages => 'debug5',
	log_statement => 'none', max_prepared_transactions => 10);

$node->add_server('tencent_live', $api);
$node->safe_psql('postgres', 'CREATE TABLE other (a int)');
my $worker = $node->worker_pid;
my $marks  = 0;
my $insert = sub { insert_sql(stream_name => $_[0]) };
my @committed;

# The first look, at its start, and one for each of what was created
settle();

# Prepared transactions: each step is a session of its own.
looks_for(0, 'PREPARE TRANSACTION', 'BEGIN;' . $insert->('prepared') . "PREPARE TRANSACTION 'p'");
looks_for(1, 'COMMIT PREPARED in another session', "COMMIT PREPARED 'p'", 'prepared');
looks_for(0, 'PREPARE TRANSACTION of what is thrown away', 'BEGIN;' . $insert->('never') . "PREPARE TRANSACTION 'p'");
looks_for(0, 'ROLLBACK PREPARED', "ROLLBACK PREPARED 'p'");
looks_for(0, 'a session that goes on after PREPARE TRANSACTION', 'BEGIN;' . $insert->('never') . "PREPARE TRANSACTION 'p'; INSERT INTO other VALUES (1); ROLLBACK PREPARED 'p'");
looks_for(1, 'PREPARE TRANSACTION and COMMIT PREPARED in one', 'BEGIN;' . $insert->('prepared here') . "PREPARE TRANSACTION 'p'; COMMIT PREPARED 'p'", 'prepared here');
looks_for(0, 'PREPARE TRANSACTION that fails', 'BEGIN;' . $insert->('never') . "CREATE TEMP TABLE t (a int); PREPARE TRANSACTION 'p'");
looks_for(0, 'COMMIT PREPARED that fails', "COMMIT PREPARED 'nowhere'");

# Prepared, and committed after the server was started again
looks_for(0, 'PREPARE TRANSACTION before a restart', 'BEGIN;' . $insert->('restarted') . "PREPARE TRANSACTION 'p'");
$node->restart;
$worker = $node->worker_pid;
settle();
looks_for(1, 'COMMIT PREPARED after it', "COMMIT PREPARED 'p'", 'restarted');

# Savepoints
looks_for(0, 'a savepoint rolled back', 'BEGIN; SAVEPOINT a;' . $insert->('never') . 'ROLLBACK TO a; COMMIT');
looks_for(0, 'nested savepoints, the outer one rolled back', 'BEGIN; SAVEPOINT a; SAVEPOINT b;' . $insert->('never') . 'RELEASE b; SAVEPOINT c;' . $insert->('never') . 'ROLLBACK TO a; INSERT INTO other VALUES (1); COMMIT');
looks_for(0, 'a savepoint released, the transaction rolled back', 'BEGIN; SAVEPOINT a;' . $insert->('never') . 'RELEASE a; ROLLBACK');
looks_for(1, 'a savepoint rolled back after another was released', 'BEGIN; SAVEPOINT a;' . $insert->('released') . 'RELEASE a; SAVEPOINT b;' . $insert->('never') . 'ROLLBACK TO b; COMMIT', 'released');
looks_for(1, 'a savepoint rolled back, and used again', 'BEGIN; SAVEPOINT a;' . $insert->('never') . 'ROLLBACK TO a;' . $insert->('again') . 'RELEASE a; COMMIT', 'again');
looks_for(1, 'a deep one released', 'BEGIN;' . join('', map { "SAVEPOINT s$_;" } 1 .. 20) . $insert->('deep') . join('', map { "RELEASE s$_;" } reverse 1 .. 20) . 'COMMIT', 'deep');
looks_for(0, 'a deep one released, but for the last', 'BEGIN;' . join('', map { "SAVEPOINT s$_;" } 1 .. 20) . $insert->('never') . join('', map { "RELEASE s$_;" } reverse 2 .. 20) . 'ROLLBACK TO s1; COMMIT');

# Exceptions
my $catch = sub { 'DO $$ BEGIN BEGIN ' . $_[0] . 'PERFORM 1 / 0; EXCEPTION WHEN division_by_zero THEN NULL; END; ' . $_[1] . ' END $$' };
looks_for(0, 'an exception that is caught', $catch->($insert->('never'), ''));
looks_for(1, 'an insert after it', $catch->($insert->('never'), $insert->('after')), 'after');
looks_for(1, 'one in the handler', 'DO $$ BEGIN ' . $insert->('never') . 'PERFORM 1 / 0; EXCEPTION WHEN division_by_zero THEN ' . $insert->('handler') . ' END $$', 'handler');
looks_for(0, 'an exception that is not', 'DO $$ BEGIN ' . $insert->('never') . 'PERFORM 1 / 0; END $$');

# COMMIT in procedures
looks_for(2, 'two commits in a procedure', 'DO $$ BEGIN ' . $insert->('commit 1') . 'COMMIT;' . $insert->('never') . 'ROLLBACK;' . $insert->('commit 2') . 'END $$', 'commit 1', 'commit 2');
looks_for(1, 'a commit before a failure', 'DO $$ BEGIN ' . $insert->('commit 3') . 'COMMIT;' . $insert->('never') . 'PERFORM 1 / 0; END $$', 'commit 3');
looks_for(0, 'a rollback in a procedure', 'DO $$ BEGIN ' . $insert->('never') . 'ROLLBACK; INSERT INTO other VALUES (1); COMMIT; END $$');
looks_for(1, 'an insert by CREATE TABLE ... AS EXECUTE, COMMIT AND CHAIN', 'BEGIN;' . $insert->('chained') . 'COMMIT AND CHAIN;' . $insert->('never') . 'ROLLBACK', 'chained');

# What was committed is sent, and nothing else is.
is_deeply([ sort map { $_->{stream_name} } grep { $_->{stream_name} !~ /^mark/ } $node->table ], [ sort @committed ], 'the table has what was committed');
is($api->ledger, 0, 'nothing is sent yet');
$node->set('screenshot_task.enabled' => 'on', log_min_messages => 'warning');
ok($node->wait_for_table("status = 'created'"), 'all is sent');
is_deeply([ sort map { $_->{stream_name} } grep { $_->{stream_name} !~ /^mark/ } $api->ledger ], [ sort @committed ], 'once each');

# With the sweep an hour away, COMMIT PREPARED alone has it sent.
$node->safe_psql('postgres', 'BEGIN;' . $insert->('at last') . "PREPARE TRANSACTION 'p'");
$node->safe_psql('postgres', "COMMIT PREPARED 'p'");
ok($node->wait_for_table("status = 'created'"), 'what was prepared is sent');
is($api->ledger(stream_name => 'at last'), 1, 'once');
is($api->complaints, '', 'the stand-in has nothing to complain of');

done_testing();

# See how often the worker looks at the table for some SQL, which commits the given streams.  Looks that come
# one after the other may be one.  A mark comes after it, and what comes first is looked at first.
sub looks_for
{
	my ($expected, $what, $sql, @streams) = @_;
	my $before = looks();

	$node->psql('postgres', $sql);
	push @committed, @streams;
	wait_until(sub { looks() > $before }) if $expected;
	settle();
	my $looks = looks() - $before - 1;
	if ($expected)
	{
		ok($looks >= 1 && $looks <= $expected, "woken: $what") or diag("$looks looks");
	}
	else
	{
		is($looks, 0, "silent: $what");
	}
	return;
}

# Insert a mark, and wait until it was looked at.
sub settle
{
	my $before;

	# until one look alone follows a mark
	do
	{
		$before = looks();
		$node->safe_psql('postgres', insert_sql(stream_name => 'mark ' . ++$marks));
		wait_until(sub { looks() > $before });
	} while ($marks == 1 && looks() != $before + 1);
	return;
}

sub looks
{
	return scalar(() = $node->log_text =~ /\[$worker\] DEBUG:  CommitTransaction\(1\)/g);
}
