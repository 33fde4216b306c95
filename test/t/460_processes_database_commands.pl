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

# A database that becomes a template, or refuses connections, is not served any more: its worker leaves once it has the answers
# to what is on its way, and claims nothing before.  What is committed there, by those who are connected, wakes nobody.  It is
# served again once it is altered back.
my ($launcher) = $node->rows("SELECT pid FROM pg_stat_activity WHERE backend_type = 'screenshot_task launcher'");
my %alter = (
	template    => [ 'ALTER DATABASE %s IS_TEMPLATE true',           'ALTER DATABASE %s IS_TEMPLATE false' ],
	connections => [ 'ALTER DATABASE %s ALLOW_CONNECTIONS false',    'ALTER DATABASE %s ALLOW_CONNECTIONS true' ],
	undone      => [ 'BEGIN; ALTER DATABASE %s IS_TEMPLATE true; SAVEPOINT s; ALTER DATABASE %1$s IS_TEMPLATE false; ROLLBACK TO s; COMMIT',
		'ALTER DATABASE %s IS_TEMPLATE false' ],
	# of which no session's commit tells the worker: it sees for itself before it claims
	catalog     => [ "UPDATE pg_database SET datistemplate = true WHERE datname = '%s'", 'ALTER DATABASE %s IS_TEMPLATE false' ]);
for my $way (sort keys %alter)
{
	my $db = "not_served_$way";
	my ($close, $open) = map { sprintf $_, $db } @{ $alter{$way} };

	make_database($db);
	$node->safe_psql($db, insert_sql(stream_name => "$db before"));
	ok($node->wait_for_table("status = 'created'", dbname => $db), "$way: a database is served");
	$api->order(fault => 'delay=2', stream => "$db under way");
	my ($in, $out) = ('', '');
	my $session = IPC::Run::start([ 'psql', '-XAtq', '-v', 'ON_ERROR_STOP=1', '-d', $node->connstr($db) ], '<', \$in, '>', \$out);
	my $run = sub { $in = "$_[0]\n\\echo done\n"; $session->pump until $out =~ s/(.*)done\n//s; return $1; };
	$run->(insert_sql(stream_name => "$db under way"));
	$api->wait_for_requests(1, stream_name => "$db under way") or die "$db: no request";
	is($node->try($close)->{error}, undef, "$way: it is not to be any more");
	$run->(insert_sql(stream_name => "$db after"));
	ok($node->poll_query_until('postgres', workers_in($db), 0), "$way: the worker leaves");
	is($run->(q{SELECT string_agg(stream_name || ' ' || status, ',' ORDER BY id) FROM screenshot_task_request;}), "$db before created,$db under way created,$db after pending\n",
		"$way: with the answer to what was under way, and nothing more is sent");

	# The first commit may be one that it was not known of yet that it wants in vain.
	$run->(insert_sql(stream_name => "$db after"));
	my $before = settled($launcher->{pid});
	$run->(insert_sql(stream_name => "$db after")) for 1 .. 20;
	is(settled($launcher->{pid}), $before, "$way: commits do not wake the launcher");
	is($node->safe_psql('postgres', workers_in($db)), 0, "$way: nor is a worker started");

	is($node->try($open)->{error}, undef, "$way: it is altered back");
	$in = "\\q\n";
	$session->finish;
	ok($node->wait_for_table("status = 'created'", dbname => $db), "$way: and served again");
	is($api->requests(stream_name => "$db after"), 22, "$way: what was pending is sent, once each");
}

# Several in one transaction
$node->safe_psql('postgres', "ALTER DATABASE not_served_$_ IS_TEMPLATE true") for qw(template connections undone);
ok($node->poll_query_until('postgres', workers_in("not_served_$_"), 0), "$_: the worker leaves") for qw(template connections undone);
$node->safe_psql('postgres', 'BEGIN;' . join('', map { "ALTER DATABASE not_served_$_ IS_TEMPLATE false;" } qw(template connections undone)) . 'COMMIT');
ok($node->worker_pid("not_served_$_"), "$_: altered with others in one transaction, it is served again") for qw(template connections undone);

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

sub workers_in { return "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'screenshot_task worker' AND datname = '$_[0]'" }

# How often a process has gone to sleep, once it has come to rest
sub settled
{
	my ($pid) = @_;
	my $last = -1;

	wait_until(sub {
		my ($now) = PostgreSQL::Test::Utils::slurp_file("/proc/$pid/status") =~ /^voluntary_ctxt_switches:\s*(\d+)/m;
		my $same = $now == $last;
		$last = $now;
		return $same || !sleep 1;
	});
	return $last;
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
