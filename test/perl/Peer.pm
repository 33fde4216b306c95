# A peer that is no API, test/peer, as a test sees it.
#
#   my $proxy = Peer->new('proxy', '--tls');
#   $proxy->order('407');
#   $proxy->connections                     # what was asked of it, a line each

package Peer;

use strict;
use warnings;

use Cwd qw(abs_path);
use File::Basename qw(dirname);
use LiveApi;
use PostgreSQL::Test::Cluster ();
use PostgreSQL::Test::Utils ();

use constant PROGRAM => dirname(dirname(abs_path(__FILE__))) . '/peer';

sub new
{
	my ($class, @options) = @_;
	my $self = bless {
		dir  => PostgreSQL::Test::Utils::tempdir('peer'),
		port => PostgreSQL::Test::Cluster::get_free_port(),
		tls  => !!grep { $_ eq '--tls' || $_ eq 'flood' } @options
	}, $class;

	$self->{pid} = LiveApi::spawn([ '/usr/bin/python3', PROGRAM, '--dir', $self->{dir}, '--port', $self->{port}, @options ],
		"$self->{dir}/stdout", "$self->{dir}/stderr");
	wait_until(sub { -e "$self->{dir}/port" }) or die 'the peer did not start: ' . PostgreSQL::Test::Utils::slurp_file("$self->{dir}/stderr");
	return $self;
}

sub url { return ($_[0]->{tls} ? 'https' : 'http') . "://127.0.0.1:$_[0]->{port}" }

sub endpoint { return $_[0]->url }

sub ca_file { return "$_[0]->{dir}/ca.pem" }

# What it does on the connections to come
sub order
{
	my ($self, $word) = @_;

	open my $file, '>', "$self->{dir}/order.new" or die "could not open order.new: $!";
	print $file $word;
	close $file or die "could not write order.new: $!";
	rename "$self->{dir}/order.new", "$self->{dir}/order" or die "could not rename order.new: $!";
	return;
}

sub connections
{
	my ($self) = @_;

	my @lines = -e "$self->{dir}/connections" ? split /\n/, PostgreSQL::Test::Utils::slurp_file("$self->{dir}/connections") : ();

	return @lines;
}

sub stop
{
	my ($self) = @_;

	LiveApi::end_process('KILL', delete $self->{pid});
	return;
}

1;
