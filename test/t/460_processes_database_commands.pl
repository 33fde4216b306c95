# DROP DATABASE, ALTER DATABASE ... RENAME and SET TABLESPACE, and CREATE DATABASE ... TEMPLATE need a database to
# themselves.  The worker leaves at once, requests under way or not, comes back however the command ends, and nothing is
# lost.  Those who may not do it do not make it leave.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../perl";
use ScreenshotTaskTest;
use Test::More;

my $api  = LiveApi->new;
# As many slots as databases, or they would take turns: a worker would leave for another's sake.
my $node = ScreenshotTaskTest->start_new('main', max_worker_processes => 40);
my $dir  = PostgreSQL::Test::Utils::tempdir;
my %kept;

$node->safe_psql('postgres', "CREATE TABLESPACE elsewhere LOCATION '$dir'");
$node->safe_psql('postgres', 'CREATE ROLE stranger LOGIN CREATEDB');

# Each, while the worker is idle, and while three requests are never answered
my %commands = (
	rename     => 'ALTER DATABASE %1$s RENAME TO %1$s_new',
	tablespace => 'ALTER DATABASE %s SET TABLESPACE elsewhere',
	template   => 'CREATE DATABASE %1$s_new TEMPLATE %1$s',
	drop       => 'DROP DATABASE %s');
for my $command (sort keys %commands)
{
	for my $state (qw(idle busy))
	{
		my $db  = "${command}_$state";
		my $sql = sprintf $commands{$command}, $db;

		make_database($db);
		hang($db) if $state eq 'busy';
		is_deeply($node->try("SET statement_timeout = '60s'; $sql")->{error}, undef, "$db: it works");
		next if $command eq 'drop';

		my $now = $command eq 'rename' ? "${db}_new" : $db;
		my @expected = $state eq 'busy' ? ([ 'in_doubt', 1 ]) x 3 : ();
		$node->safe_psql($now, insert_sql(stream_name => "$db later"));
		ok($node->wait_for_table("status = 'created'", dbname => $now, where => "stream_name = '$db later'"), "$db: a worker is back");
		is_deeply([ map { [ @$_{qw(status attempts)} ] } $node->table("stream_name LIKE 'fault%'", dbname => $now) ],
			\@expected, "$db: what was under way is in doubt, and nothing is lost");
		is($api->requests(stream_name => "fault:hang#$db"), @expected + 0, "$db: and was sent once");
		next unless $command eq 'template' && $state eq 'busy';

		$node->safe_psql("${db}_new", insert_sql(stream_name => "$db copy"));
		ok($node->wait_for_table("status = 'created'", dbname => "${db}_new", where => "stream_name = '$db copy'"), "$db: the copy has a worker");
		is_deeply([ map { $_->{status} } $node->table("stream_name LIKE 'fault%'", dbname => "${db}_new") ], [ ('sending') x 3 ],
			"$db: which leaves them as they were");
	}
}

# Commands that fail: somebody is connected; the new name is taken; it is in a transaction, or in one that is undone
make_database('kept');
hang('kept');
my $guest = IPC::Run::start([ 'psql', '-XAtq', '-d', $node->connstr('kept') ], '<', \my $in, '>', \my $out);
$in = "SELECT 'connected';\n";
$guest->pump until $out && $out =~ /connected/;
# PostgreSQL takes five seconds for each.
for my $sql ('DROP DATABASE kept', 'CREATE DATABASE other TEMPLATE kept')
{
	fails($sql, '55006', qr/is being accessed by other users$/);
}
$in = "\\q\n";
$guest->finish;
fails('ALTER DATABASE kept RENAME TO postgres', '42P04', qr/^database "postgres" already exists$/);
fails('BEGIN; DROP DATABASE kept', '25001', qr/^DROP DATABASE cannot run inside a transaction block$/);
is_deeply($node->try('BEGIN; ALTER DATABASE kept RENAME TO other; ROLLBACK')->{error}, undef, 'a RENAME is undone');
returns('a RENAME that is undone');
is_deeply([ map { $_->{status} } $node->table("stream_name = 'fault:hang#kept'", dbname => 'kept') ], [ ('in_doubt') x 3 ],
	'what was under way before all that is in doubt');

# What a savepoint undoes keeps nobody out, though the transaction goes on; and one may do as much as it likes.
my $outer = $node->begin('BEGIN; SAVEPOINT a; SAVEPOINT b; ALTER DATABASE kept RENAME TO other; RELEASE b; ROLLBACK TO a; SELECT pg_advisory_lock(7); SELECT pg_sleep(600)');
ok($node->poll_query_until('postgres', "SELECT EXISTS (SELECT FROM pg_locks WHERE locktype = 'advisory' AND granted)"), 'a RENAME is undone to a savepoint');
returns('a RENAME that is undone to a savepoint');
$node->safe_psql('postgres', "SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory'");
$outer->end;
make_database("many_$_") for 1 .. 10;
is_deeply($node->try('BEGIN;' . join('', map { "ALTER DATABASE many_$_ RENAME TO renamed_$_;" } 1 .. 10) . 'COMMIT')->{error}, undef, 'ten are renamed in one transaction');
ok($node->worker_pid("renamed_$_"), "the worker of number $_ is back") for 1, 10;

# Who may not, does not make it leave.
my $pid = $node->worker_pid('kept');
for my $sql ('DROP DATABASE kept', 'ALTER DATABASE kept RENAME TO other', 'ALTER DATABASE kept SET TABLESPACE elsewhere',
	'CREATE DATABASE other TEMPLATE kept')
{
	is($node->try($sql, user => 'stranger')->{error}{sqlstate}, '42501', "$sql: not for a stranger");
}
is($node->worker_pid('kept'), $pid, 'whose commands leave the worker where it is');

is($api->complaints, '', 'the stand-in has nothing to complain of');

done_testing();

sub make_database
{
	my ($db) = @_;

	$node->safe_psql('template1', "CREATE DATABASE $db");
	$node->safe_psql($db, 'CREATE EXTENSION screenshot_task');
	$node->add_server('tencent_live', $api, dbname => $db, request_timeout => '5min');
	$node->worker_pid($db);
	return;
}

sub hang
{
	my ($db) = @_;

	$node->safe_psql($db, insert_sql(rows => 3, stream_name => "fault:hang#$db"));
	$api->wait_for_requests(3, stream_name => "fault:hang#$db") or die "$db: no requests";
	return;
}

sub fails
{
	my ($sql, $sqlstate, $message) = @_;
	my $error = $node->try($sql)->{error};

	is($error->{sqlstate}, $sqlstate, "$sql: it fails");
	like($error->{message}, $message, "$sql: and says why");
	returns($sql);
	return;
}

# Is there a worker that sends?
sub returns
{
	my ($what) = @_;
	my $stream = 'after ' . ++$kept{n};

	$node->safe_psql('kept', insert_sql(stream_name => $stream));
	ok($node->wait_for_table("status = 'created'", dbname => 'kept', where => "stream_name = '$stream'"), "$what: the worker is back");
	return;
}
