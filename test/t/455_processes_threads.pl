# A thread of libcurl's resolver never runs a handler of PostgreSQL's: all signals are blocked in it, as the kernel
# reports.
#
# The endpoint is a name of a look-up that fails, in a process that has no other threads.  Its threads are watched
# from /proc, while it looks the name up again and again.  Versions of libcurl start a thread for each look-up, or
# keep a few.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../perl";
use ScreenshotTaskTest;
use Config;
use Test::More;

my $api  = LiveApi->new;
my $node = ScreenshotTaskTest->start_new('main');
my @names = split ' ', $Config{sig_name};
my %number;
@number{@names} = split ' ', $Config{sig_num};

# What PostgreSQL handles.  The kernel lets nobody block KILL and STOP, and the C library keeps 32 and 33.
my @handled = qw(HUP INT QUIT TERM ALRM USR1 USR2 CHLD PIPE FPE);

# A session that calls
$node->add_server('nowhere', $api, endpoint => 'https://nowhere.invalid', connect_timeout => '2s');
$node->add_server('named', $api, endpoint => 'https://localhost:' . $api->{port});
my $call = call_sql(server => 'nowhere') =~ s/'/''/gr;
my $session = $node->begin(
	"SELECT pg_backend_pid() AS pid \\gset\n\\o /dev/null\n"
	  . "DO \$\$ BEGIN FOR i IN 1 .. 100000 LOOP BEGIN PERFORM create_screenshot_task('s', 'd', 'a', now() + interval '1 h', 1, server => 'nowhere');"
	  . " EXCEPTION WHEN sqlclient_unable_to_establish_sqlconnection THEN PERFORM pg_sleep(0.01); END; END LOOP; END \$\$;");
my $query = "SELECT pid FROM pg_stat_activity WHERE query LIKE 'DO \$\$ BEGIN FOR i%' AND pid <> pg_backend_pid()";
$node->poll_query_until('postgres', "SELECT EXISTS ($query)");
my $backend = $node->safe_psql('postgres', $query);
check_threads('a session', $backend);
$node->safe_psql('postgres', "SELECT pg_terminate_backend($backend)");
is($session->end->{error}{sqlstate}, '57P01', 'a session: ends by a signal that its threads do not take');

# The worker: a reload ends its pause, and has it look up the name again.
$node->safe_psql('postgres', insert_sql(server => 'nowhere'));
my $worker = $node->worker_pid;
check_threads('the worker', $worker, sub { kill 'HUP', $worker });
is($node->worker_pid, $worker, 'the worker: all those signals did it no harm');
$node->safe_psql('postgres', insert_sql(server => 'named'));
ok($node->wait_for_table("status = 'created'", where => "server = 'named'"), 'the worker: sends to a host that has a name');

# The masks were not left behind
for my $process ([ 'the worker', $worker ])
{
	my ($what, $pid) = @$process;
	my $mask = mask("/proc/$pid/status", 'SigBlk');
	is_deeply([ grep { blocks($mask, $_) } qw(HUP QUIT TERM USR1) ], [], "$what: its main thread takes signals");
}
is($api->complaints, '', 'the stand-in has nothing to complain of');

done_testing();

# Catch threads of a process, in look-ups, and see which signals they block: ten of them, or few very often.  Provoke,
# if that is given, look-ups.
sub check_threads
{
	my ($what, $pid, $provoke) = @_;
	my (%caught, @masks);
	my $give_up = time + $PostgreSQL::Test::Utils::timeout_default;

	until (keys %caught >= 10 || @masks >= 1000 || time > $give_up)
	{
		$provoke->() if $provoke;
		for (1 .. 500)
		{
			for my $task (glob "/proc/$pid/task/*")
			{
				next if $task =~ m{/$pid\z};
				my $mask = mask("$task/status", 'SigBlk') // next;
				$caught{$task} = 1;
				push @masks, $mask;
			}
		}
	}
	cmp_ok(scalar @masks, '>=', 10, "$what: threads were caught in a look-up");
	for my $signal (@handled)
	{
		is(scalar(grep { !blocks($_, $signal) } @masks), 0, "$what: SIG$signal is blocked in all of them");
	}
	return;
}

# A signal mask of a thread, as the text of a hexadecimal number; undef if the thread is gone.  Of one that is about
# to be gone, the kernel shows no threads in its group, and empty masks.
sub mask
{
	my ($path, $name) = @_;

	open my $file, '<', $path or return undef;
	my %line = map { /^(\w+):\s*(\S+)/ ? ($1 => $2) : () } <$file>;
	return $line{Threads} ? $line{$name} : undef;
}

sub blocks
{
	my ($mask, $signal) = @_;

	return (hex(substr $mask, -8) >> ($number{$signal} - 1)) & 1;
}
