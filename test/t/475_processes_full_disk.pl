# The disk is full while requests fly.  What cannot be written is kept, or after a panic found out about; once there
# is room again, every request becomes one task.
#
# The data directory is on a small file system of the test's own, in a mount namespace that an unprivileged user may
# make: as its root for the mount, and as himself for the rest.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../perl";
use File::Temp ();
use IPC::Run ();
use POSIX ();
use Test::More;

use constant { SIZE => '160m', ROWS => 30 };

my $disk;
BEGIN
{
	$disk = $ENV{SMALL_DISK};
	if (!$disk)
	{
		# The directory stays empty outside of the namespace.
		$ENV{SMALL_DISK} = File::Temp::tempdir('small_disk.XXXXXX', TMPDIR => 1);
		system 'unshare', '-rm', 'sh', '-ec',
		  'mount -t tmpfs -o size="$2",mode=700 none "$1"; shift 2; exec unshare -U "$@"', 'sh', $ENV{SMALL_DISK}, SIZE,
		  "--map-user=$<", '--map-group=' . ($( + 0), $^X, $FindBin::RealBin . '/' . $FindBin::RealScript;
		my $status = $?;
		rmdir $ENV{SMALL_DISK};
		$status == -1 and die "could not run unshare";
		POSIX::_exit($status >> 8 || ($status ? 1 : 0));
	}
}

use ScreenshotTaskTest;

my $api  = LiveApi->new('--limit', 100);
my $node = ScreenshotTaskTest->new('main');

mkdir "$disk/pgdata" or die "could not make a directory: $!";
symlink "$disk/pgdata", $node->data_dir or die "could not make a link: $!";
$node->init(extra => [ '--encoding=UTF8', '--locale=C', '--wal-segsize=1' ]);
$node->append_conf('postgresql.conf', <<'END');
shared_preload_libraries = 'screenshot_task'
screenshot_task.sweep_interval = '1h'
screenshot_task.reconcile_grace = '100ms'
screenshot_task.reconcile_spacing = '300ms'
autovacuum = off
min_wal_size = '2MB'
max_wal_size = '8MB'
END
$node->start;
$node->safe_psql('postgres', 'CREATE EXTENSION screenshot_task');
$node->add_server('tencent_live', $api, requests_per_second => 100, request_timeout => '5s');
$node->safe_psql('postgres', insert_sql(stream_name => 'the first'));
ok($node->wait_for_table("status = 'created'"), 'the server is heard of');

# A table that cannot grow: its result is an error.
my $worker = $node->worker_pid;
# An old snapshot keeps all versions of the rows, so that no page has room for what comes back.
my $old = $node->begin('BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT 1; SELECT pg_sleep(1000)');
$node->poll_query_until('postgres', "SELECT EXISTS (SELECT FROM pg_stat_activity WHERE query LIKE 'SELECT pg_sleep%' AND backend_xmin IS NOT NULL)");
fly('result');
fill();
$api->tell('told of result');
ok(wait_until(sub { $node->log_text =~ /\[$worker\] ERROR:  could not .*: No space left on device/ || $node->log_text =~ /PANIC:  .*No space left on device/ }), 'the worker runs out of space');
make_room();
attempt("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query LIKE 'SELECT pg_sleep%'");
$old->end;
all_is_well('a full disk');
is($node->safe_psql('postgres', "SELECT max(attempts) FROM screenshot_task_request"), 1, 'by one attempt each')
  unless $node->log_text =~ /PANIC/;

# A log that cannot be written: the server panics, and does not come up again until there is room.
fly('panic');
fill();
$api->tell('told of panic');
attempt('SELECT pg_switch_wal()', 'CREATE TABLE t AS SELECT i FROM generate_series(1, 1000000) AS i') for 1 .. 8;
attempt("SELECT pg_logical_emit_message(false, '', repeat('x', 1000000))") for 1 .. 20;
ok(wait_until(sub { $node->log_text =~ /PANIC:  could not .*: No space left on device/ }), 'the server panics');
make_room();
all_is_well('a panic');
is($api->complaints, '', 'the stand-in has nothing to complain of');
$node->stop('immediate') if $node->poll_query_until('postgres', 'SELECT true');

done_testing();

# Run commands on a server that may not be there.  Its psql may not live to read them from a pipe.
sub attempt
{
	my (@sql) = @_;

	return IPC::Run::run([ 'psql', '-XAtq', '-v', 'ON_ERROR_STOP=1', '-d', $node->connstr('postgres'), map { ('-c', $_) } @sql ],
		'>', \my $out, '2>', \my $err);
}

# Send requests, which are answered once the stand-in is told to.
sub fly
{
	my ($what) = @_;

	$api->order(fault => "until=told of $what", stream => "$what *", times => ROWS);
	$node->safe_psql('postgres', insert_sql(stream_name => \"'$what ' || i", extension => \"repeat('x', 1500)", rows => ROWS));
	wait_until(sub { grep({ ($_->{stream_name} // '') =~ /^$what / } $api->requests) >= ROWS }) or die "$what did not fly";
	return;
}

sub fill
{
	open my $file, '>', "$disk/filler" or die "could not open the filler: $!";
	1 while syswrite $file, 'x' x 4096;
	close $file;
	return;
}

sub make_room
{
	unlink "$disk/filler" or die "could not remove the filler: $!";
	return;
}

# All requests become tasks, by a server that is started again if it is not there.
sub all_is_well
{
	my ($what) = @_;

	attempt('SELECT 1') or sleep 2;
	if (!attempt('SELECT 1'))
	{
		PostgreSQL::Test::Utils::system_log('pg_ctl', '-D', $node->data_dir, '-l', $node->logfile, '-m', 'immediate', 'stop');
		PostgreSQL::Test::Utils::system_log('pg_ctl', '-D', $node->data_dir, '-l', $node->logfile, '-w', 'start');
		$node->_update_pid(1);
	}
	$node->reload;
	ok($node->wait_for_table("status = 'created'"), "$what: all are created");
	is_deeply([ sort map { "$_->{stream_name}: $_->{task_id}" } $node->table ],
		[ sort map { "$_->{stream_name}: $_->{task_id}" } $api->ledger ], "$what: one task for each request");
	return;
}
