# A call works in single-user mode; and what it has reserved is given back when its client cannot be made.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../perl";
use IPC::Run qw(run);
use ScreenshotTaskTest;
use Test::More;

my $api  = LiveApi->new;
my $node = ScreenshotTaskTest->start_new('main');
$node->add_server('tencent_live', $api);

# No descriptor is left: not for one call, nor for as many as would use up the budget if none gave back its part.
my $holder = $node->begin("SELECT pg_advisory_lock(170), pg_sleep(600)");
ok($node->poll_query_until('postgres', "SELECT EXISTS (SELECT FROM pg_locks WHERE locktype = 'advisory' AND granted)"), 'somebody holds a lock');
my $perform = call_sql() =~ s/.*?(?=create_screenshot_task)/PERFORM /sr;
my $preview = call_sql() =~ s/create_/preview_/r;
my $session = $node->begin("$preview SELECT count(*) FROM screenshot_task_stat;
	DO \$\$ BEGIN
		EXECUTE format('COPY (SELECT) TO PROGRAM %L', format('cat >/dev/null && prlimit --pid %s --nofile=3:', pg_backend_pid()));
		FOR i IN 1 .. 200 LOOP
			BEGIN
				$perform
				RAISE 'it was done';
			EXCEPTION WHEN insufficient_resources THEN
				NULL;
			END;
		END LOOP;
	END \$\$;
	SELECT pg_advisory_lock(170);" . call_sql(stream_name => 'after'));
ok($node->poll_query_until('postgres', "SELECT EXISTS (SELECT FROM pg_locks WHERE locktype = 'advisory' AND NOT granted)"), 'calls without a descriptor fail');
my $pid = $node->safe_psql('postgres', "SELECT pid FROM pg_locks WHERE locktype = 'advisory' AND NOT granted");
system('prlimit', '--pid', $pid, '--nofile=1000:') == 0 or die 'prlimit failed';
$node->safe_psql('postgres', "SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory' AND granted");
my $error = $session->end->{error};
is($error && $error->{message}, undef, 'with descriptors again, one is done');
is($api->ledger(event => 'create', stream_name => 'after'), 1, 'once');
$holder->end;

# Nobody is there to be woken, and no postmaster to die.
my $data = $node->data_dir;
$node->stop;
my $sql = join '', map { call_sql(stream_name => "single $_") =~ s/\s+/ /gr . "\n" } 1, 2;
my ($out, $err);
run([ 'postgres', '--single', '-D', $data, 'postgres' ], '<', \$sql, '>', \$out, '2>', \$err);
unlike($err, qr/ERROR|FATAL|PANIC/, 'in single-user mode no call fails');
is(() = $out =~ /task_id = "/g, 2, 'and each returns a TaskId');
is($api->ledger(event => 'create', stream_name => "single $_"), 1, "single $_: one task") for 1, 2;
is($api->complaints, '', 'the stand-in has nothing to complain of');

done_testing();
