# What the network does to the table's requests, over both versions of HTTP: one that never left is pending
# again and its server paused; one that left and has no conclusive answer is in doubt, whether or not its
# task was made, and is not sent again; a slow answer is as good as any.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../perl";
use ScreenshotTaskTest;
use Test::More;

my $not_answered = qr/^(got no complete answer from|lost the connection after the request was sent to) "127/;
my $too_long     = qr/^gave up an answer from "127.*: it is longer than 64 kB/;
my $bad_answer   = qr/^the answer /;
my %ambiguous    = (
	(map { $_ => $not_answered } qw(close reset hang half h2-refuse h2-reset=CANCEL goaway goaway-after)),
	(map { $_ => $too_long } qw(huge long-task-id)),
	(map { $_ => qr/^HTTP status \d+ instead of an answer from the API/ }
		qw(status=403 status=500 status=502 status=503 redirect=https://127.0.0.1/)),
	(map { $_ => $bad_answer } qw(not-json empty gzip no-task-id both wrong-type nul bad-utf8)),
	'endless-headers'  => qr/$too_long|$not_answered/,
	'truncate-headers' => qr/$not_answered|$bad_answer/);
my %unreached = (
	'refused'         => 'could not connect to "127',
	'close-on-accept' => 'could not negotiate TLS with "127',
	'hang-handshake'  => 'could not negotiate TLS with "127',
	'bad-certificate' => 'could not negotiate TLS with "127.*certificate.*option "ca_file" is');
my @harmless = qw(delay=0.5 slow-body=0.5 date=3600 task-id-len=8 task-id-len=255);

my $node    = ScreenshotTaskTest->start_new('main');
my $servers = 0;

for my $options ([], ['--http1'])
{
	my $http = @$options ? 'HTTP/1.1' : 'HTTP/2';
	my $api  = LiveApi->new(@$options);

	# All at once, each with a server of its own; each ambiguous fault once without a task and once with one
	for my $fault (sort keys %ambiguous)
	{
		my @options = $fault eq 'hang' ? (request_timeout => '1s') : ();
		$node->safe_psql('postgres', insert_sql(server => own_server($api, @options), stream_name => $_))
		  for "fault:$fault", "fault:$fault,create";
	}
	$node->safe_psql('postgres', insert_sql(server => own_server($api), stream_name => "fault:$_")) for @harmless;
	ok($node->wait_for_table, "$http: all requests end");
	for my $fault (sort keys %ambiguous)
	{
		in_doubt_once("$http, $fault", $api, "fault:$fault", $ambiguous{$fault}, 0);
		in_doubt_once("$http, $fault,create", $api, "fault:$fault,create", $ambiguous{$fault}, 1);
	}
	created_once("$http, $_", $api, "fault:$_") for @harmless;

	check_reused($http, $api, $_) for 'reuse-close', 'reuse-close,create', 'reuse-close-refuse=1,create';
	check_unreached($http, $api, $_) for sort keys %unreached;
	check_unread($http, $api);
	is($api->complaints, '', "$http: the stand-in has nothing to complain of");
	$node->safe_psql('postgres', 'TRUNCATE screenshot_task_request');
}
unlike($node->log_text, qr/terminated by signal|PANIC|TRAP/, 'no process crashed');

done_testing();

# A server that shares no connection with others.
sub own_server
{
	my ($api, %options) = @_;
	my $name = 's' . ++$servers;

	$node->add_server($name, $api, ca_file => $api->ca_file_copy, %options);
	return $name;
}

sub in_doubt_once
{
	my ($label, $api, $stream, $message, $tasks) = @_;
	my ($row) = $node->table("stream_name = '$stream'");

	is_deeply([ @$row{qw(status attempts task_id finished_at)} ], [ 'in_doubt', 1, undef, undef ], "$label: in doubt");
	like($row->{error_message}, $message, "$label: what happened is in the row");
	like($row->{error_message}, qr/; outcome unknown$/, "$label: and what follows");
	like($node->log_text, qr/screenshot task request $row->{id} is in doubt\n/, "$label: the log tells of it");
	is($api->requests(stream_name => $stream, outcome => $stream =~ /^fault:([a-z0-9-]+)/), 1, "$label: sent once");
	is($api->ledger(stream_name => $stream), $tasks, "$label: tasks");
	return;
}

sub created_once
{
	my ($label, $api, $stream) = @_;
	my ($row)   = $node->table("stream_name = '$stream'");
	my @tasks   = $api->ledger(stream_name => $stream);

	is(@tasks, 1, "$label: one task");
	is_deeply([ @$row{qw(status task_id request_id error_message)} ],
		[ 'created', @{ $tasks[0] }{qw(task_id request_id)}, undef ], "$label: created");
	return;
}

# A connection that dies on its second request is where libcurl would repeat it by itself.
sub check_reused
{
	my ($http, $api, $fault) = @_;
	my $server = own_server($api);

	$node->safe_psql('postgres', insert_sql(server => $server, stream_name => "first, $fault"));
	$node->wait_for_table;
	$node->safe_psql('postgres', insert_sql(server => $server, stream_name => "fault:$fault"));
	$node->wait_for_table;
	created_once("$http, before $fault", $api, "first, $fault");
	in_doubt_once("$http, $fault", $api, "fault:$fault", $not_answered, $fault =~ /create/ ? 1 : 0);
	wait_until(sub { $api->listens });
	return;
}

sub check_unreached
{
	my ($http, $api, $fault) = @_;
	my $label  = "$http, $fault";
	my $server = own_server($api, connect_timeout => $fault eq 'hang-handshake' ? '2s' : '60s');

	$fault eq 'refused' ? $api->stop : $api->order(fault => $fault, times => 0);
	$node->safe_psql('postgres', insert_sql(rows => 2, server => $server, stream_name => $label));
	ok($node->wait_for_log(qr/screenshot tasks for server "$server" are paused for 5 s\n.*DETAIL:  $unreached{$fault}/),
		"$label: the server is paused");
	ok($node->wait_for_table("status = 'pending' AND attempts = 0 AND sent_at IS NULL", where => "stream_name = '$label'"),
		"$label: both requests are pending, and have cost no attempt");
	like(($node->table("stream_name = '$label' AND error_message IS NOT NULL"))[0]{error_message}, qr/^$unreached{$fault}/,
		"$label: what happened is in the row");
	is($api->requests(stream_name => $label), 0, "$label: nothing arrived");

	$fault eq 'refused' ? $api->start : $api->clear_orders;
	$node->reload;
	ok($node->wait_for_table("status = 'created' AND attempts = 1", where => "stream_name = '$label'"),
		"$label: both are created after a reload");
	is($api->ledger(stream_name => $label), 2, "$label: once each");
	return;
}

# The peer goes after the handshake.  Whether it has read the request only the peer knows.
sub check_unread
{
	my ($http, $api) = @_;

	$api->order(fault => 'close-before-read');
	$node->safe_psql('postgres', insert_sql(server => own_server($api), stream_name => 'unread'));
	$node->wait_for_table;
	my ($row) = $node->table("stream_name = 'unread'");
	is($row->{status}, 'in_doubt', "$http, close-before-read: in doubt");
	like($row->{error_message}, $not_answered, "$http, close-before-read: what happened is in the row");
	is($api->ledger(stream_name => 'unread'), 0, "$http, close-before-read: no task");
	return;
}
