# The stand-in of the API, test/live_api, as a test sees it.
#
#   my $api = LiveApi->new('--http1');     # on a port of its own, in a directory of its own
#   $api->order(fault => 'hang', stream => 'a*', times => 3);
#   $api->ledger(event => 'create', stream_name => 'abc')    # what happened: hashes
#   $api->requests(outcome => 'TaskId')                      # what arrived: hashes
#   $api->live(stream_name => 'abc')                         # tasks that take pictures, or will: hashes
#
# ledger() and requests() return those records that have the given values.

package LiveApi;

use strict;
use warnings;

use Cwd qw(abs_path);
use Exporter 'import';
use File::Basename qw(dirname);
use File::Copy qw(copy);
use JSON::PP;
use List::Util qw(max);
use POSIX qw(WNOHANG);
use PostgreSQL::Test::Cluster ();
use PostgreSQL::Test::Utils ();
use Time::HiRes qw(sleep);

our @EXPORT    = qw(wait_until);

use constant PROGRAM => dirname(dirname(abs_path(__FILE__))) . '/live_api';
use constant { SECRET_ID => 'AKIDEXAMPLE', SECRET_KEY => 'Gu5t9xGARNpq86cd98joQYCN3EXAMPLE' };
our @account = (SECRET_ID, SECRET_KEY);

sub new
{
	my ($class, @options) = @_;
	# A port that nobody else is given, as one of the kernel's choice may be while the stand-in is stopped.
	my $self = bless {
		dir     => PostgreSQL::Test::Utils::tempdir('live_api'),
		port    => PostgreSQL::Test::Cluster::get_free_port(),
		options => \@options
	}, $class;

	$self->start;
	return $self;
}

# Start it; again with the same ledger, if it was stopped.
sub start
{
	my ($self) = @_;

	unlink "$self->{dir}/port";
	$self->{pid} = spawn([ '/usr/bin/python3', PROGRAM, '--dir', $self->{dir}, '--port', $self->{port}, @{ $self->{options} } ],
		"$self->{dir}/stdout", "$self->{dir}/stderr");
	wait_until(sub { -e "$self->{dir}/port" || waitpid($self->{pid}, WNOHANG) != 0 });
	-e "$self->{dir}/port" or die "the stand-in did not start: " . $self->complaints;
	return;
}

# Connections to it are refused from now on.
sub stop
{
	my ($self) = @_;

	end_process('TERM', delete $self->{pid});
	return;
}

# It answers nothing, until it goes on.
sub pause { return kill 'STOP', $_[0]->{pid} }

sub go_on { return kill 'CONT', $_[0]->{pid} }

sub endpoint { return "https://127.0.0.1:$_[0]->{port}" }

# What the Security Token Service is to do from now on; and the token that proves who a pod is.
use constant ROLE_ARN => 'qcs::cam::uin/100000000001:roleName/screenshots';

sub set_sts { my ($self, %orders) = @_; return $self->write_file('sts', JSON::PP->new->canonical->encode(\%orders)) }

sub set_web_identity_token { my ($self, $token) = @_; return $self->write_file('web_identity_token', $token) }

# The metadata service, with option --metadata; what it is to do from now on; and what it was asked.
sub metadata_endpoint
{
	my ($self) = @_;

	return 'http://127.0.0.1:' . PostgreSQL::Test::Utils::slurp_file("$self->{dir}/metadata_port") =~ s/\s//gr;
}

sub set_metadata { my ($self, %orders) = @_; return $self->write_file('metadata', JSON::PP->new->canonical->encode(\%orders)) }

sub metadata_requests { my ($self, %wanted) = @_; return matching("$self->{dir}/metadata_requests", %wanted) }

sub ca_file { return "$_[0]->{dir}/ca.pem" }

# Replace a file that the stand-in reads, as a whole.
sub write_file
{
	my ($self, $name, $text) = @_;

	open my $file, '>', "$self->{dir}/$name.new" or die "could not open $name.new: $!";
	print $file $text;
	close $file or die "could not write $name.new: $!";
	rename "$self->{dir}/$name.new", "$self->{dir}/$name" or die "could not rename $name.new: $!";
	return;
}

# The same under a name of its own.  libcurl shares connections between requests that agree in all options,
# the CA file's name among them.
sub ca_file_copy
{
	my ($self) = @_;
	my $copy = sprintf '%s/ca-%d.pem', $self->{dir}, ++$self->{copies};

	copy($self->ca_file, $copy) or die "could not write $copy: $!";
	return $copy;
}

# What it wrote to stderr: its own bugs, and mistakes in orders.
sub complaints { return PostgreSQL::Test::Utils::slurp_file("$_[0]->{dir}/stderr") }

# Order a fault, of what --help lists.  It holds for whatever arrives from now on.
sub order
{
	my ($self, %order) = @_;

	open my $file, '>>', "$self->{dir}/orders" or die "could not open orders: $!";
	print $file JSON::PP->new->utf8->canonical->encode(\%order) . "\n";
	close $file or die "could not write orders: $!";
	wait_until(sub { !$self->listens }) if $order{fault} && $order{fault} =~ /^refuse=/;
	return;
}

# Let those answers go that are held back until this (a fault "until=...").
sub tell
{
	my ($self, $name) = @_;

	PostgreSQL::Test::Utils::append_to_file("$self->{dir}/$name", '');
	return;
}

sub clear_orders
{
	my ($self) = @_;

	$self->order(clear => JSON::PP::true);
	return;
}

# Told by the kernel: a connection made to find out might take a fault that is meant for another.
sub listens
{
	my ($self) = @_;
	my $listening = sprintf '0100007F:%04X 00000000:0000 0A ', $self->{port};

	return index(PostgreSQL::Test::Utils::slurp_file('/proc/net/tcp'), $listening) >= 0;
}

sub ledger { my ($self, %wanted) = @_; return matching("$self->{dir}/ledger", %wanted) }

# The tasks that take pictures, or will: those that were neither stopped since they began, nor deleted before, and have not ended
sub live
{
	my ($self, %wanted) = @_;
	my (%live, %over);

	for my $event ($self->ledger)
	{
		my $id = $event->{task_id};

		if ($event->{event} eq 'create')
		{
			$live{$id} = { %$event, start_time => $event->{start_time} // int $event->{time} };
		}
		elsif ($event->{event} eq 'stop' xor $event->{time} < $live{$id}{start_time})
		{
			$over{$id} = 1;
		}
	}
	return grep {
		my $task = $_;
		!$over{ $task->{task_id} } && $task->{end_time} > time && !grep { ($task->{$_} // '') ne $wanted{$_} } keys %wanted
	} map { $live{$_} } sort keys %live;
}

sub requests { my ($self, %wanted) = @_; return matching("$self->{dir}/requests", %wanted) }

# The X-TC-TraceIds of requests, in order
sub trace_ids { my ($self, %wanted) = @_; return map { $_->{headers}{'x-tc-traceid'} } $self->requests(%wanted) }

sub matching
{
	my ($path, %wanted) = @_;

	return grep {
		my $record = $_;
		!grep { ($record->{$_} // '') ne $wanted{$_} } keys %wanted
	} @{ records($path) };
}

# All records of a file, which only grows.  Each is read once: of many, that takes longer than what a test measures.
my %read;

sub records
{
	my ($path) = @_;
	my $read = $read{$path} //= { offset => 0, records => [] };

	if (-e $path && -s _ > $read->{offset})
	{
		my ($lines) = PostgreSQL::Test::Utils::slurp_file($path, $read->{offset}) =~ /\A(.*\n)/s;

		if (defined $lines)
		{
			my $json = JSON::PP->new->utf8;

			push @{ $read->{records} }, map { $json->decode($_) } split /\n/, $lines;
			$read->{offset} += length $lines;
		}
	}
	return $read->{records};
}

# Wait until so many of the requests that arrived have the given values.
sub wait_for_requests
{
	my ($self, $n, %wanted) = @_;

	return wait_until(sub { $self->requests(%wanted) >= $n });
}

# The most requests with the given values that arrived in any one second, by the kernel's time.
# Of requests that the kernel merged only a span of time is known; one counts where all of its span
# is within the second, so that nobody is accused for want of knowledge.
sub most_in_a_second
{
	my ($self, %wanted) = @_;
	my @arrived = $self->requests(%wanted);

	return max(0, map {
		my $first = $_->{earliest};
		scalar grep { $_->{earliest} >= $first && $_->{time} - $first < 1 } @arrived
	} @arrived);
}

# Processes of ours, none of which outlives the test, however that ends

my %running;

# Start a command, with its output and errors appended to files.
sub spawn
{
	my ($command, $stdout, $stderr) = @_;
	my $pid = fork // die "could not fork: $!";

	if ($pid == 0)
	{
		open(STDIN, '<', '/dev/null') && open(STDOUT, '>>', $stdout) && open(STDERR, '>>', $stderr)
		  && exec @$command;
		POSIX::_exit(127);
	}
	$running{$pid} = 1;
	return $pid;
}

# Wait for its end; with a signal, having sent it that.
sub end_process
{
	my ($signal, $pid) = @_;

	kill $signal, $pid if $signal;
	kill 'CONT', $pid if $signal;
	waitpid $pid, 0;
	delete $running{$pid};
	return;
}

END
{
	my $status = $?;
	end_process('TERM', $_) for keys %running;
	$? = $status;
}

# Wait until a condition holds.  Returns false if it never does.
sub wait_until
{
	my ($condition) = @_;
	my $give_up = time + $PostgreSQL::Test::Utils::timeout_default;

	until ($condition->())
	{
		return 0 if time > $give_up;
		sleep 0.02;
	}
	return 1;
}

1;
