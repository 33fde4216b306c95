# What the network does to a call, over both versions of HTTP: a request that never left raises 08001,
# one that left and has no conclusive answer 08007, whether or not the task was made; a slow answer is
# as good as any.  No request is sent twice, and the session goes on.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../perl";
use ScreenshotTaskTest;
use Test::More;

# Before the request could be sent: fault, detail
my @unreached = (
	[ 'refuse=3600',     qr/^could not connect to "127\.0\.0\.1:\d+": / ],
	[ 'close-on-accept', qr/^could not negotiate TLS with "127\.0\.0\.1:\d+": / ],
	[ 'hang-handshake',  qr/^could not negotiate TLS with "127\.0\.0\.1:\d+": .*time/i ],
	[ 'bad-certificate', qr/^could not negotiate TLS with "127\.0\.0\.1:\d+": .*certificate.* \(option "ca_file" is "\/.*\/ca\.pem"\)$/ ]);

# After: each also with the task made.  On HTTP/1.1, those of HTTP/2 close the connection.
my $incomplete = qr/^(got no complete answer from|lost the connection after the request was sent to) "127/;
my $too_long   = qr/^gave up an answer from "127.*: it is longer than 64 kB$/;
my $bad_answer = qr/^the answer /;
my @ambiguous  = (
	(map { [ $_, $incomplete ] }
		qw(close reset hang half h2-refuse h2-reset=CANCEL h2-reset=ENHANCE_YOUR_CALM goaway goaway-after)),
	(map { [ $_, $too_long ] } qw(huge long-task-id)),
	[ 'endless-headers', qr/$too_long|$incomplete/ ],
	(map { [ "status=$_", qr/^HTTP status $_ instead of an answer from the API$/ ] } 302, 403, 429, 500, 502, 503, 504),
	(map { [ $_, $bad_answer ] } qw(not-json empty gzip no-task-id both wrong-type nul bad-utf8)),
	# libcurl takes headers that end early for an answer
	[ 'truncate-headers', qr/$incomplete|$bad_answer/ ]);

my $node = ScreenshotTaskTest->start_new('main');
my $n    = 0;

for my $options ([], ['--http1'])
{
	my $http = @$options ? 'HTTP/1.1' : 'HTTP/2';
	my $api  = LiveApi->new(@$options);
	my $name = @$options ? 'http1' : 'http2';

	$node->add_server($name, $api);
	$node->add_server("hasty_$name", $api, request_timeout => '2s', connect_timeout => '1s');
	check_unreached($http, $name, $api, @$_) for @unreached;
	for my $fault (@ambiguous, [ "redirect=@{[ $api->endpoint ]}/", qr/^HTTP status 302 / ])
	{
		check_ambiguous($http, $name, $api, @$fault, $_) for 0, 1;
	}
	check_reused($http, $name, $api, $_) for 'reuse-close', 'reuse-close,create', 'reuse-close-refuse=1,create';
	check_unread($http, $name, $api);
	check_harmless($http, $name, $api, $_) for qw(delay=0.3 slow-body=0.3 date=-600 task-id-len=8 task-id-len=255);
	is($api->complaints, '', "$http: the stand-in has nothing to complain of");
}

# A file of certificates that is not there
my $api = LiveApi->new;
$node->add_server('no_ca', $api, ca_file => '/nonexistent/ca.pem');
my $error = $node->try(call_sql(server => 'no_ca'))->{error};
is($error->{sqlstate}, '08001', 'no file of certificates: SQLSTATE');
like($error->{detail}, qr/^could not negotiate TLS with "127.* \(option "ca_file" is "\/nonexistent\/ca\.pem"\)$/, 'no file of certificates: detail');

done_testing();

sub check_unreached
{
	my ($http, $server, $api, $fault, $detail) = @_;
	my $label = "$http, $fault";

	$server = "hasty_$server" if $fault =~ /^hang/;
	$fault =~ /^refuse/ ? $api->stop : $api->order(fault => $fault);
	my $error = $node->try(call_sql(server => $server, stream_name => $fault))->{error};
	$api->start if $fault =~ /^refuse/;

	is($error->{sqlstate}, '08001', "$label: SQLSTATE");
	is($error->{message}, qq(could not reach server "$server" for CreateScreenshotTask), "$label: message");
	like($error->{detail}, $detail, "$label: detail");
	is($error->{hint}, 'Nothing was sent; the call can be repeated.', "$label: hint");
	is($api->requests(stream_name => $fault), 0, "$label: nothing arrived");
	is_deeply($node->try(call_sql(server => $server, stream_name => $fault))->{error}, undef, "$label: the next call succeeds");
	return;
}

sub check_ambiguous
{
	my ($http, $server, $api, $fault, $detail, $created) = @_;
	my $stream = "fault:$fault" . ($created ? ',create' : '');
	my $next   = 'after ' . ++$n;

	$server = "hasty_$server" if $fault =~ /^hang/;
	my $result = $node->try(call_sql(server => $server, stream_name => $stream)
		  . call_sql(server => $server, stream_name => $next));

	is_unknown($api, $result->{error}, "$http, $stream", $server, $detail);
	is($api->requests(stream_name => $stream), 1, "$http, $stream: sent once");
	is($api->ledger(stream_name => $stream), $created, "$http, $stream: tasks");
	is_deeply([ map { $_->[0] } @{ $result->{rows} } ],
		[ map { $_->{task_id} } $api->ledger(stream_name => $next) ], "$http, $stream: the next call succeeds");
	return;
}

# A connection that dies on its second request is where libcurl would repeat it by itself.
sub check_reused
{
	my ($http, $server, $api, $fault) = @_;
	my $stream = "fault:$fault";
	my $result = $node->try(call_sql(server => $server) . call_sql(server => $server, stream_name => $stream));

	is(@{ $result->{rows} }, 1, "$http, $stream: the first call succeeds");
	is_unknown($api, $result->{error}, "$http, $stream", $server, $incomplete);
	is($api->requests(stream_name => $stream), 1, "$http, $stream: sent once");
	is($api->ledger(stream_name => $stream), $fault =~ /create/ ? 1 : 0, "$http, $stream: tasks");
	wait_until(sub { $api->listens });
	return;
}

# The peer goes after the handshake.  Whether it has read the request only the peer knows.
sub check_unread
{
	my ($http, $server, $api) = @_;
	my $label = "$http, close-before-read";

	$api->order(fault => 'close-before-read');
	is_unknown($api, $node->try(call_sql(server => $server, stream_name => 'unread'))->{error}, $label, $server, $incomplete);
	is($api->ledger(stream_name => 'unread'), 0, "$label: no task");
	return;
}

sub check_harmless
{
	my ($http, $server, $api, $fault) = @_;
	my $stream = "fault:$fault";
	my $result = $node->try(call_sql(server => $server, stream_name => $stream));

	is_deeply($result->{error}, undef, "$http, $stream: no error");
	is_deeply($result->{rows}, [ map { [ $_->{task_id}, $_->{request_id} ] } $api->ledger(stream_name => $stream) ],
		"$http, $stream: the TaskId is the API's");
	return;
}

sub is_unknown
{
	my ($api, $error, $label, $server, $detail) = @_;

	is($error->{sqlstate}, '08007', "$label: SQLSTATE");
	is($error->{message}, qq(it is unknown whether server "$server" carried out CreateScreenshotTask), "$label: message");
	my ($trace_id) = $error->{detail} =~ s/ \((?:RequestId \S+, )?TraceId ([-0-9a-f]{36})\)$// ? $1 : ();
	like($error->{detail}, $detail, "$label: detail");
	is(scalar(grep { $_ eq ($trace_id // '') } $api->trace_ids), $label =~ /before-read/ ? 0 : 1, "$label: the trace id is of a request that arrived");
	is($error->{hint}, 'Check whether it was carried out before repeating the call.', "$label: hint");
	return;
}
