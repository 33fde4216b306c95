# What the network does to the table's requests, over both versions of HTTP: one that never left is pending
# again and its server paused; one that left and has no conclusive answer is in doubt, whether or not its
# task was made, and is not sent again; what was pending becomes one task.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../perl";
use ScreenshotTaskTest;
use Test::More;

my @unreached = qw(refused close-on-accept hang-handshake bad-certificate);
my $answer    = 'HTTP status \d+ instead of an answer of the API|the answer .*';
my $none      = 'got no complete answer from .*|lost the connection after the request was sent to .*|gave up an answer of .*';
my %ambiguous = (
	(map { $_ => $none }
		qw(close reset hang half h2-refuse h2-reset=CANCEL goaway goaway-after endless-headers huge long-task-id)),
	(map { $_ => $answer } qw(status=302 status=403 status=500 status=502 status=503 redirect=https://127.0.0.1/
		  not-json empty gzip no-task-id both wrong-type nul bad-utf8)),
	'truncate-headers' => "$none|$answer");
my @harmless = qw(slow-body=0.5 delay=0.5 date=3600 task-id-len=8 task-id-len=255);

my $node    = ScreenshotTaskTest->start_new('main');
my $servers = 0;

check_version('HTTP/2');
check_version('HTTP/1.1', '--http1');
unlike($node->log_text, qr/terminated by signal|PANIC|TRAP/, 'no process crashed');

done_testing();

sub check_version
{
	my ($http, @options) = @_;
	my $api = LiveApi->new(@options);
	my (%first, %server);

	# Each fault has a server, and with it a connection, of its own: two requests, of which one is made.
	for my $fault (sort keys %ambiguous)
	{
		my $server = own_server($api, $fault eq 'hang' ? (request_timeout => '1s') : ());
		$server{$fault} = $server;
		$node->safe_psql('postgres', insert_sql(server => $server, stream_name => "fault:$fault")
			  . insert_sql(server => $server, stream_name => "fault:$fault,create"));
	}
	for my $fault ('reuse-close,create', 'reuse-close-refuse=1,create')
	{
		$server{$fault} = own_server($api);
		$node->safe_psql('postgres', insert_sql(server => $server{$fault}, stream_name => "before $fault")) if 0;
	}
	$node->safe_psql('postgres', insert_sql(server => own_server($api), stream_name => "fault:$_")) for @harmless;

	ok($node->wait_for_table, "$http: all requests end");
	done_once($http, $api, "fault:$_") for @harmless;
	in_doubt_once($http, $api, "fault:$_", $ambiguous{$_}, 0), in_doubt_once($http, $api, "fault:$_,create", $ambiguous{$_}, 1)
	  for sort keys %ambiguous;
	check_unreached($http, $api, $_) for @unreached;
	check_unread($http, $api);
	check_reused($http, $api, $_) for 'reuse-close', 'reuse-close,create', 'reuse-close-refuse=1,create';
	is($api->complaints, '', "$http: the stand-in has nothing to complain of");
	$node->safe_psql('postgres', 'TRUNCATE screenshot_task_request');
	return;
}
