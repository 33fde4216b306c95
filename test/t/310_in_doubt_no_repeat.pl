# Nothing is sent again by libcurl.  A reused connection dies after the request was read: the stand-in has the
# request once, and the row ends with one task, whether that was made by the request that died or not.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../perl";
use ScreenshotTaskTest;
use Test::More;

my @faults = ('reuse-close', 'close', 'reset', 'half', 'truncate-headers', 'h2-refuse', 'h2-reset=CANCEL', 'h2-reset=INTERNAL_ERROR', 'goaway', 'goaway-after');
my %apis = (
	'HTTP/1.1' => [ LiveApi->new('--http1'), LiveApi->new('--http1') ],
	'HTTP/2'   => [ LiveApi->new,            LiveApi->new ]);
my $node = ScreenshotTaskTest->start_new('main', 'screenshot_task.reconcile_grace' => '100ms', 'screenshot_task.reconcile_spacing' => '300ms');
my $servers = 0;

for my $http (sort keys %apis)
{
	my ($api, $refusing) = @{ $apis{$http} };

	check($http, $api, @faults);
	# alone, as it refuses all connections
	check($http, $refusing, 'reuse-close-refuse=0.5');
}

# Several requests on the connection that dies
my ($api) = @{ $apis{'HTTP/2'} };
for my $fault ('goaway', 'goaway-after', 'reset', 'close', 'h2-refuse')
{
	my $server = warm_server($api);
	$api->order(fault => "$fault", stream => "crowd $fault *", action => 'CreateScreenshotTask');
	$node->safe_psql('postgres', insert_sql(server => $server, rows => 5, stream_name => \"'crowd $fault ' || i"));
	ok($node->wait_for_table("status = 'created'"), "$fault: all of several are created");
	my @rows = $node->table("stream_name LIKE 'crowd $fault %'");
	is(scalar @rows, 5, "$fault: five of them");
	is_deeply([ map { $_->{task_id} } @rows ], [ map { my @tasks = $api->ledger(stream_name => $_->{stream_name}); "@{[ map { $_->{task_id} } @tasks ]}" } @rows ], "$fault: one task for each");
}

# A connection that was closed while idle costs a new one, and no more.
for my $http (sort keys %apis)
{
	my $api = LiveApi->new('--idle-timeout', 1, $http eq 'HTTP/1.1' ? '--http1' : ());
	my $offset = $node->log_size;
	my $server = warm_server($api, 'idle 1');

	for my $n (2, 3)
	{
		ok(wait_until(sub { !connected($api) }), "$http: the idle connection is closed");
		$node->safe_psql('postgres', insert_sql(server => $server, stream_name => "idle $n"));
		ok($node->wait_for_table("status = 'created'", where => "server = '$server'"), "$http: what comes next is created");
	}
	my @requests = $api->requests;
	is_deeply([ map { "$_->{stream_name}: $_->{ordinal} of $_->{connection}" } @requests ], [ map { "idle $_: 1 of $_" } 1 .. 3 ], "$http: each on a connection of its own");
	is_deeply([ map { $_->{attempts} } $node->table("server = '$server'") ], [ 1, 1, 1 ], "$http: at the first attempt");
	unlike($node->log_text($offset), qr/in doubt|paused|WARNING|ERROR/, "$http: nothing is in doubt, or paused");
	is($api->complaints, '', "$http: the stand-in has nothing to complain of");
}
is($_->complaints, '', 'the stand-ins have nothing to complain of') for map { @$_ } values %apis;

done_testing();

sub check
{
	my ($http, $api, @faults) = @_;
	my @streams = map { ("fault:$_,create#made", "fault:$_,times=1#lost") } @faults;
	my $offset = $node->log_size;

	# One for each stream, so that no fault is in the way of another; heard of, so that a connection is there
	$node->safe_psql('postgres', join '', map { insert_sql(server => warm_server($api), stream_name => $_) } @streams);
	ok($node->wait_for_table("status = 'created'"), "$http: all are created in the end");
	for my $stream (@streams)
	{
		my $what     = "$http, $stream";
		my $made     = $stream =~ /#made/;
		my ($row)    = $node->table("stream_name = '$stream' AND server IN (SELECT name FROM api_server WHERE port = $api->{port})");
		my @requests = $api->requests(stream_name => $stream);
		my @tasks    = $api->ledger(stream_name => $stream);
		my $expected = $made ? 'Create( Describe)+' : 'Create( Describe){2,} Create';

		like(join(' ', map { $_->{action} =~ s/ScreenshotTask//r } @requests), qr/^$expected$/, "$what: what arrived");
		is_deeply([ "HTTP/$requests[0]{http}", $requests[0]{ordinal} > 1 ], [ $http, 1 ], "$what: it was read on a reused connection");
		is_deeply([ map { $_->{task_id} } @tasks ], [ $row->{task_id} ], "$what: one task, that of the row");
		is($row->{attempts}, $made ? 1 : 2, "$what: attempts");
		like($node->log_text($offset), qr/screenshot task request $row->{id} is in doubt\n/, "$what: was in doubt");
	}
	return;
}

# A server that a request was sent to
sub warm_server
{
	my ($api, $stream) = @_;
	my $name = 's' . ++$servers;

	$node->safe_psql('postgres', 'CREATE TABLE IF NOT EXISTS api_server (name text, port int)') if $servers == 1;
	$node->add_server($name, $api, request_timeout => '1s', ca_file => $api->ca_file_copy);
	$node->safe_psql('postgres', "INSERT INTO api_server VALUES ('$name', $api->{port});" . insert_sql(server => $name, stream_name => $stream // "warm $name"));
	$node->wait_for_table("status = 'created'", where => "server = '$name'") or die "$name was not reached";
	return $name;
}

# Is there a connection, as the kernel of the stand-in sees it?
sub connected
{
	my ($api) = @_;

	return PostgreSQL::Test::Utils::slurp_file('/proc/net/tcp') =~ sprintf '0100007F:%04X \w+:\w+ 01 ', $api->{port};
}
