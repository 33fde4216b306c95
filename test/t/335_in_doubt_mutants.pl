# A test that cannot fail shows nothing: the extension is made to make each mistake that it can be told to, by MUTANT()
# in src/, and each is noticed, as requests that are lost or tasks that are doubled.  The same steps without the mistake
# give each request its task.

use strict;
use warnings;

use File::Find qw(find);
use FindBin;
use lib "$FindBin::RealBin/../perl";
use ScreenshotTaskTest;
use Test::More;

# What a mistake is shown with: it is told to go wrong, and is to be noticed at one of these attempts.
use constant ATTEMPTS => 3;

my $api  = LiveApi->new('--http1');
my $node = ScreenshotTaskTest->start_new('main',
	install_path                         => ScreenshotTaskTest::build('CRASH_POINTS=1'),
	restart_after_crash                  => 'on',
	synchronous_commit                   => 'off',
	wal_writer_delay                     => '10s',
	'screenshot_task.reconcile_grace'    => '100ms',
	'screenshot_task.reconcile_spacing'  => '100ms');
$node->add_server('tencent_live', $api, request_timeout => '1s');

# By mistake: what is done with requests for a stream, and how many there are then.
my %shown_by = (
	# Requests leave, and only then is it committed that they are sent.
	'claim-uncommitted' => sub { return insert_and_crash(@_, 'claim-before-commit') },

	# It is committed, but not on disk: a worker decides on that as it starts.
	'claim-unflushed' => sub { $node->restart; return insert_and_crash(@_, 'after-send') },

	# A request in doubt is sent again, whether it has a task or not.
	'sent-again-unasked' => sub {
		my ($stream) = @_;

		$api->order(fault => 'close,create', stream => $stream, action => 'CreateScreenshotTask');
		insert($stream);
		return 1;
	},

	# A task that is not listed at first, as it may be, is taken for one that there is not.
	'sent-again-too-soon' => sub {
		my ($stream) = @_;

		$api->order(fault => 'close,create', stream => $stream, action => 'CreateScreenshotTask');
		$api->order(fault => 'null-list', stream => $stream, action => 'DescribeScreenshotTask');
		insert($stream);
		return 1;
	},

	# A request in doubt is given the task of an equal one.
	'task-adopted-twice' => sub {
		my ($stream) = @_;
		my $end = \("to_timestamp(" . (time + 7200) . ")");

		insert($stream, end_time => $end);
		$node->wait_for_table("status = 'created'", where => "stream_name = '$stream'");
		$api->order(fault => 'error=InternalError', stream => $stream, action => 'CreateScreenshotTask');
		insert($stream, end_time => $end);
		return 2;
	},

	# libcurl sends a request again by itself, when a connection dies that has served others.
	'repeated-by-libcurl' => sub {
		my ($stream) = @_;

		# After a fault each request has a connection of its own, until so many are answered.
		insert("before $stream") for 1 .. 10;
		$node->wait_for_table("status = 'created'", where => "stream_name = 'before $stream'");
		$api->order(fault => 'reuse-close,create', stream => $stream, action => 'CreateScreenshotTask');
		insert($stream);
		return 1;
	},

	# The worker is not told of a commit.
	'not-woken' => sub { insert($_[0]); return 1 });

# What is done with a request that has its task, which runs: it is withdrawn.
my %withdrawn_by = (
	# The task is deleted, which does not stop it.
	'started-task-deleted' => \&withdraw);

my %mutants;
find(sub { $mutants{$_} = 1 for /\.c$/ ? PostgreSQL::Test::Utils::slurp_file($_) =~ /MUTANT\("([^"]*)"\)/g : () }, "$FindBin::RealBin/../../src");
is_deeply([ sort keys %shown_by, keys %withdrawn_by ], [ sort keys %mutants ], 'each mistake that the source knows of is made here');

for my $mutant (sort keys %mutants)
{
	my $noticed = '';

	is(attempt($mutant, "$mutant, without"), '', "$mutant: nothing is wrong without it");
	for my $n (1 .. ATTEMPTS)
	{
		last if $noticed = attempt($mutant, "$mutant, $n", "$mutant mutate 1");
	}
	isnt($noticed, '', "$mutant: noticed") and note $noticed;
}
is($api->complaints, '', 'the stand-in has nothing to complain of');

done_testing();

# Take the steps of a mistake, having told the extension to make it, or not.  Returns what is wrong afterwards.
sub attempt
{
	my ($mutant, $stream, @control) = @_;

	return attempt_withdrawal(@_) if $withdrawn_by{$mutant};
	control(@control);
	my $requests = $shown_by{$mutant}->($stream, @control);
	# Of those that are lost nothing is to be waited for.
	local $PostgreSQL::Test::Utils::timeout_default = 10 if @control;
	my $settled = $node->wait_for_table("status = 'created'", where => "stream_name = '$stream'");
	my $rows    = $node->rows("SELECT task_id FROM screenshot_task_request WHERE stream_name = '$stream' AND task_id IS NOT NULL GROUP BY task_id");
	my $tasks   = $api->ledger(event => 'create', stream_name => $stream);

	control();
	return '' if $settled && $rows == $requests && $tasks == $requests;
	return "of $requests requests $rows have a task of their own, and there are $tasks tasks";
}

# The same for a withdrawal: a request is withdrawn and its task ended, or neither.
sub attempt_withdrawal
{
	my ($mutant, $stream, @control) = @_;

	insert($stream, start_time => \q{now() - interval '1 min'});
	$node->wait_for_table("status = 'created'", where => "stream_name = '$stream'");
	control(@control);
	$withdrawn_by{$mutant}->($stream, @control);
	my $settled = $node->wait_for_table("status IN ('created', 'withdrawn')", where => "stream_name = '$stream'");
	my $created = $node->safe_psql('postgres', "SELECT count(*) FROM screenshot_task_request WHERE stream_name = '$stream' AND status = 'created'");
	my $live    = $api->live(stream_name => $stream);

	control();
	return '' if $settled && $created == $live;
	return "$created requests are not withdrawn, and $live tasks run";
}

# What the extension is told, in the file that it reads at each crash point.
sub control
{
	my $file = $node->data_dir . '/screenshot_task_crash_points';

	PostgreSQL::Test::Utils::append_to_file("$file.new", join '', map { "$_\n" } @_);
	rename "$file.new", $file or die "could not rename $file.new: $!";
	return;
}

# The request is on disk, whatever a claim of it is.
sub insert
{
	my ($stream, %parameters) = @_;

	perhaps_cut_short('SET synchronous_commit = on; ' . insert_sql(stream_name => $stream, %parameters));
	return;
}

# Insert a request, have the worker killed at a crash point, and let it go on without.
sub insert_and_crash
{
	my ($stream, @control) = @_;
	my $point  = pop @control;
	my $offset = $node->log_size;

	control(@control, "$point kill 1");
	insert($stream);
	$node->wait_for_log(qr/was terminated by signal 9/, $offset);
	control();
	return 1;
}

sub withdraw
{
	my ($stream) = @_;

	$node->safe_psql('postgres', "SELECT withdraw_screenshot_task_request(id) FROM screenshot_task_request WHERE stream_name = '$stream'");
	return;
}

# The worker may be killed, and all sessions with it, before this one hears that it has committed.
sub perhaps_cut_short
{
	my ($sql) = @_;

	$node->psql('postgres', $sql, stderr => \my $ignored);
	return;
}
