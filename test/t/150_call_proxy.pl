# Proxies, by http and by https: what goes well, and what is said of one that refuses, is not there, is not trusted or
# does not answer.  Every message about a proxy names the proxy, and nothing is sent.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../perl";
use Peer;
use ScreenshotTaskTest;
use Test::More;

my $api      = LiveApi->new;
my $node     = ScreenshotTaskTest->start_new('main');
my $endpoint = quotemeta "127.0.0.1:$api->{port}";
my $both     = PostgreSQL::Test::Utils::tempdir . '/both.pem';

for my $options ([], ['--tls'])
{
	my $proxy = Peer->new('proxy', @$options);
	my $name  = $proxy->{tls} ? 'https' : 'http';
	my $url   = $proxy->url;
	my $ca    = $api->ca_file;

	if ($proxy->{tls})
	{
		$ca = $both;
		PostgreSQL::Test::Utils::append_to_file($both, join '', map { PostgreSQL::Test::Utils::slurp_file($_) } $api->ca_file, $proxy->ca_file);
		$node->add_server('distrusted', $api, proxy => $url);
		fails('distrusted', qr/^could not negotiate TLS with proxy "$url": .*certificate/, 'a proxy whose certificate is not trusted');
	}
	$node->add_server($name, $api, proxy => $url, ca_file => $ca, connect_timeout => '3s');

	is_deeply($node->try(call_sql(server => $name))->{error}, undef, "$name: a call by the proxy");
	$node->safe_psql('postgres', insert_sql(server => $name, stream_name => $name));
	ok($node->wait_for_table("status = 'created'", where => "stream_name = '$name'"), "$name: and a request of the table");
	is_deeply([ grep { !/^ended/ } $proxy->connections ], [ ("CONNECT 127.0.0.1:$api->{port} HTTP/1.1") x 2 ], "$name: both by CONNECT");

	for my $status (407, 403, 503)
	{
		$proxy->order($status);
		fails($name, qr/^proxy "$url" refused to connect to "$endpoint": HTTP status $status$/, "$name: refused with $status");
	}
	$proxy->order('close');
	fails($name, qr/^got no answer from proxy "$url": /, "$name: a proxy that hangs up");
	$proxy->order('hang');
	fails($name, qr/^got no answer from proxy "$url": timed out after 3000 ms$/, "$name: one that does not answer");
	$proxy->order('endless');
	fails($name, qr/^proxy "$url" refused to connect to "$endpoint": HTTP status 407$/, "$name: one that refuses without end");

	# The worker says so in the reason for the pause, and goes on once the proxy does.
	$proxy->order('403');
	$node->restart;
	$node->safe_psql('postgres', insert_sql(server => $name, stream_name => "$name refused"));
	ok($node->wait_for_log(qr/for server "$name" are paused for 5 s\n.*DETAIL:  proxy "$url" refused to connect to "$endpoint": HTTP status 403\n/), "$name: the worker names the proxy");
	$proxy->order('connect');
	ok($node->wait_for_table("status = 'created' AND attempts = 1", where => "stream_name = '$name refused'"), "$name: and goes on");

	# What is wrong behind the proxy is not the proxy's.
	$node->add_server("${name}_behind", $api, proxy => $url, ca_file => $proxy->{tls} ? $proxy->ca_file : '/etc/ssl/certs/ca-certificates.crt');
	fails("${name}_behind", qr/^could not negotiate TLS with "$endpoint": /, "$name: an endpoint whose certificate is not trusted");
	$proxy->stop;
	fails($name, qr/^could not connect to proxy "$url": /, "$name: a proxy that is not there");
}
$node->add_server('nameless', $api, proxy => 'http://proxy.invalid:3128', connect_timeout => '10s');
fails('nameless', qr/^could not look up proxy "http:\/\/proxy\.invalid:3128": /, 'a proxy of no known name');
is($api->ledger(event => 'create'), 6, 'each request that got through made one task');
is($api->complaints, '', 'the stand-in has nothing to complain of');

done_testing();

sub fails
{
	my ($server, $detail, $name) = @_;
	my $before = $api->requests;
	my $error  = $node->try(call_sql(server => $server))->{error};

	is($error->{sqlstate}, '08001', "$name: nothing was sent");
	like($error->{detail}, $detail, "$name: what failed, and where");
	is($api->requests, $before, "$name: nothing arrived");
	return;
}
