# The memory of the processes that have signed: of a user mapping's key, and of what is derived from it, it holds the signing
# key of the day and nothing else.  Where the key has to be, it is counted: once in the page of shared buffers that has the
# row of pg_user_mapping.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../perl";
use ScreenshotTaskTest;
use Digest::SHA qw(hmac_sha256);
use POSIX qw(strftime);
use Test::More;

use constant { ID => 'AKIDofTheMemoryTest', KEY => 'aKeyThatIsLookedForInMemory01234', DAY => 24 * 60 * 60 };

my $api  = LiveApi->new('--account', join ':', ID, KEY);
my $node = ScreenshotTaskTest->start_new('main');

# The session in which the mapping is made has what its user wrote, and no copy of ours: name and key are one text there,
# with an equals sign between them.
my $author = Session->new($node);
$node->add_server('tencent_live', $api, account => undef);
$author->run("CREATE USER MAPPING FOR PUBLIC SERVER tencent_live OPTIONS (secret_id '@{[ID]}', secret_key '@{[KEY]}')");
cmp_ok(occurrences($author->{pid}, 'p', KEY), '>', 0, 'the session that makes a user mapping has what its user wrote');
is(occurrences($author->{pid}, 'p', "secret_key\0" . KEY), 0, 'and no copy of the validator');
$author->end;
# What became of the row before is gone.
$node->safe_psql('postgres', 'VACUUM FULL pg_user_mapping');
$node->restart;

my $worker  = $node->worker_pid;
my $session = Session->new($node);
my $today;
do
{
	$today = day(0);
	$session->run(insert_sql() . call_sql() . "SELECT * FROM describe_screenshot_tasks(now(), now() + interval '1 h')");
	ok($node->wait_for_table("status = 'created'"), 'worker and session have signed');
	# With the key of another day, which is that of the next call no more
	$session->run("SELECT * FROM preview_screenshot_task('a', 'd', 'live', now() - interval '23 h', 1, signed_at => now() - interval '24 h')");
} until $today eq day(0);

for my $process ([ worker => $worker ], [ session => $session->{pid} ])
{
	my ($name, $pid) = @$process;

	is(occurrences($pid, 'p', KEY), 0, "$name: the key is not in its memory");
	is(occurrences($pid, 's', KEY), 1, "$name: it is once in what all share");
	is(occurrences($pid, 's', 'secret_key=' . KEY), 1, "$name: as a row of pg_user_mapping");
	for my $days (-1, 0, 1)
	{
		my %derived = derived(day($days * DAY));

		is(occurrences($pid, 'ps', $derived{$_}), 0, "$name: nor is $_ of today" . ($days ? sprintf ' %+d', $days : ''))
		  for grep { $days || $_ ne 'kSigning' } sort keys %derived;
	}
}
my %derived = derived($today);
cmp_ok(occurrences($worker, 'p', $derived{kSigning}), '>', 0, 'worker: it has the signing key of today');
is(occurrences($session->{pid}, 'p', $derived{kSigning}), 0, 'session: a preview forgets what there was');
$session->run(call_sql());
cmp_ok(occurrences($session->{pid}, 'p', $derived{kSigning}), '>', 0, 'session: which the next call derives again') if $today eq day(0);
is(occurrences($session->{pid}, 'p', KEY), 0, 'session: and leaves no key');
$session->end;

# An error between reading and signing leaves none either.
$session = Session->new($node);
$node->safe_psql('postgres', "ALTER USER MAPPING FOR PUBLIC SERVER tencent_live OPTIONS (ADD token 'aTokenThatIsWrong')");
$session->run("DO \$\$ BEGIN PERFORM create_screenshot_task('s', 'd', 'live', now() + interval '1 h', 1); EXCEPTION WHEN OTHERS THEN NULL; END \$\$");
is(occurrences($session->{pid}, 'p', KEY), 0, 'session: nor does a call that fails');
$session->end;

done_testing();

sub day { return strftime('%Y-%m-%d', gmtime(time + $_[0])) }

# The steps of the derivation of a day's signing key
sub derived
{
	my ($day) = @_;
	my %keys = (kDate => hmac_sha256($day, 'TC3' . KEY));

	$keys{kService} = hmac_sha256('live', $keys{kDate});
	$keys{kSigning} = hmac_sha256('tc3_request', $keys{kService});
	return %keys;
}

# How often some bytes are in the memory of a process that is its own (p), or shared with others (s)
sub occurrences
{
	my ($pid, $kinds, $bytes) = @_;
	my $n = 0;

	open my $memory, '<:raw', "/proc/$pid/mem" or die "could not open the memory of process $pid: $!";
	for (split /\n/, PostgreSQL::Test::Utils::slurp_file("/proc/$pid/maps"))
	{
		my ($from, $to, $kind, $name) = /^(\w+)-(\w+) r..([ps]) \S+ \S+ \S+\s*(.*)/ or next;
		my $text = '';

		next if index($kinds, $kind) < 0 || $name =~ /^\[v/;
		$_ = hex for $from, $to;
		sysseek($memory, $from, 0) or die "could not seek in the memory of process $pid: $!";
		while (length $text < $to - $from)
		{
			sysread($memory, $text, $to - $from - length $text, length $text) or last;
		}
		while ($text =~ /\Q$bytes\E/g)
		{
			my $before = substr $text, $-[0] > 24 ? $-[0] - 24 : 0, 24;
			$n++;
			note "in $name, after ", $before =~ s/[^ -~]/./gr;
		}
	}
	close $memory;
	return $n;
}

# A session that stays
package Session;

sub new
{
	my ($class, $node) = @_;
	my $self = bless { in => '', out => '' }, $class;

	$self->{psql} = IPC::Run::start([ 'psql', '-XAtq', '-v', 'ON_ERROR_STOP=1', '-d', $node->connstr('postgres') ], '<', \$self->{in}, '>', \$self->{out});
	$self->{pid} = $self->run('SELECT pg_backend_pid()') =~ s/\s//gr;
	return $self;
}

sub run
{
	my ($self, $sql) = @_;

	$self->{in} = "$sql;\n\\echo done\n";
	$self->{psql}->pump until $self->{out} =~ s/(.*)done\n//s;
	return $1;
}

sub end
{
	my ($self) = @_;

	$self->{in} = "\\q\n";
	$self->{psql}->finish;
	return;
}
