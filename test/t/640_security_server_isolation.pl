# Servers do not wait for each other: one whose proxy or handshake never answers, or whose peer sends without end, holds
# up neither the requests of another server with the same endpoint nor what must always work, and is at an end itself
# when its time-out is over.  And time in which the process did nothing is nobody's time-out.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../perl";
use Peer;
use PostgreSQL::Test::Utils;
use ScreenshotTaskTest;
use Test::More;

my $api  = LiveApi->new;
my $node = ScreenshotTaskTest->start_new('main', 'screenshot_task.reconcile_grace' => '100ms');
$node->add_server('good', $api, connect_timeout => '10s', request_timeout => '60s');

# The same endpoint by a proxy that never answers CONNECT
my $proxy = Peer->new('proxy');
$proxy->order('hang');
$node->add_server('mute', $api, proxy => $proxy->url, connect_timeout => '60s');
$node->safe_psql('postgres', insert_sql(server => 'mute', stream_name => 'mute'));
ok(wait_until(sub { $proxy->connections > 0 }), 'a proxy is asked, and does not answer');
$node->safe_psql('postgres', insert_sql(server => 'good', stream_name => \"'beside ' || i", rows => 20));
ok($node->wait_for_table("status = 'created' AND attempts = 1", where => "server = 'good'"), 'a server of the same endpoint goes on meanwhile');
is($proxy->connections + 0, 1, 'on connections of its own');
$node->safe_psql('postgres', 'DELETE FROM screenshot_task_request; DROP SERVER mute CASCADE');

# A role with an account that does not allow this machine's address, on a server that others use
$node->add_server('listed', $api);
$node->safe_psql('postgres', "CREATE ROLE mallory; GRANT INSERT ON screenshot_task_request TO mallory; GRANT USAGE ON FOREIGN SERVER listed TO mallory; SET ROLE mallory;"
	  . "CREATE USER MAPPING FOR mallory SERVER listed OPTIONS (secret_id '$LiveApi::account[0]', secret_key '$LiveApi::account[1]')");
$api->order(fault => "error=$_", stream => $_, times => 0) for qw(IpInBlacklist IpNotInWhitelist);
$node->safe_psql('postgres', "SET ROLE mallory; " . join '', map { insert_sql(server => 'listed', stream_name => $_, start_time => \"now() - interval '1 min'") } qw(IpInBlacklist IpNotInWhitelist));
ok($node->wait_for_log(qr/screenshot tasks of role mallory for server "listed" are paused for 5 s\n.*DETAIL:  Ip/), 'an account that does not allow this machine: its role is paused');
$node->safe_psql('postgres', insert_sql(server => 'listed', stream_name => \"'and others ' || i", rows => 5));
ok($node->wait_for_table("status = 'created'", where => "stream_name LIKE 'and others%'"), 'others are sent');
unlike($node->log_text, qr/screenshot tasks for server "listed" are paused/, 'the server is not paused');
$node->safe_psql('postgres', "DELETE FROM screenshot_task_request; DROP OWNED BY mallory; DROP ROLE mallory; DROP SERVER listed CASCADE");

# A worker that is stopped for longer than the time-outs: an answer that came meanwhile is one.
my $worker = $node->worker_pid;
$node->add_server('brief', $api, request_timeout => '3s', connect_timeout => '3s');
$api->order(fault => 'delay=1', stream => 'stopped', times => 1);
$node->safe_psql('postgres', insert_sql(server => 'brief', stream_name => 'warm'));
ok($node->wait_for_table("status = 'created'", where => "stream_name = 'warm'"), 'a connection is there');
$node->safe_psql('postgres', insert_sql(server => 'brief', stream_name => 'stopped'));
ok($node->poll_query_until('postgres', "SELECT status = 'sending' AND sent_at IS NOT NULL FROM screenshot_task_request WHERE stream_name = 'stopped'"), 'a request is under way')
  && wait_until(sub { $api->requests(stream_name => 'stopped') });
kill 'STOP', $worker;
sleep 6;
kill 'CONT', $worker;
ok($node->wait_for_table("status = 'created' AND attempts = 1", where => "stream_name = 'stopped'"), 'its answer is taken after the worker was stopped');

# Nor is what the connections of other servers take, with files of certificates that are as large as they may be.
my $large = PostgreSQL::Test::Utils::tempdir . '/large.pem';
my $bundle = PostgreSQL::Test::Utils::slurp_file('/etc/ssl/certs/ca-certificates.crt');
my $own_ca = PostgreSQL::Test::Utils::slurp_file($api->ca_file);
append_to_file($large, $own_ca . $bundle x int((16 * 1024 * 1024 - length $own_ca) / length $bundle));
$node->add_server("slow$_", $api, ca_file => $large, connect_timeout => '60s', request_timeout => '2min') for 1 .. 3;
$api->order(fault => 'delay=0.5', stream => 'meanwhile *', times => 0);
$node->safe_psql('postgres', insert_sql(server => 'brief', stream_name => \"'meanwhile ' || i", rows => 10) . join '', map { insert_sql(server => "slow$_", stream_name => "slow $_") } 1 .. 3);
ok($node->wait_for_table("status = 'created' AND attempts = 1", where => "server = 'brief'"), 'a long call of libcurl is nobody else\'s time-out');
ok($node->wait_for_table("status = 'created'", where => "server LIKE 'slow%'"), 'and has an end');
unlike($node->log_text, qr/server "(?:good|brief)" are paused|is in doubt/, 'no server was paused, and nothing is in doubt');

# Peers that send without end
my $flood = Peer->new('flood');
$node->add_server('flooded', $flood, endpoint => $flood->url, connect_timeout => '2s', request_timeout => '3s', in_doubt => 'hold');
for my $kind (qw(window-update empty-data priority ping settings))
{
	$flood->order($kind);
	my $error = $node->try(call_sql(server => 'flooded'))->{error};
	is($error->{sqlstate}, '08007', "$kind: a call has an end");
	like($error->{detail}, qr/^(?:gave up the connection to "127\.0\.0\.1:$flood->{port}": it sent too much data|got no complete answer from "127\.0\.0\.1:$flood->{port}": )/, "$kind: and says with whom");

	$node->safe_psql('postgres', insert_sql(server => 'flooded', stream_name => $kind) . insert_sql(server => 'good', stream_name => \"'$kind ' || i", rows => 10));
	ok($node->wait_for_table("status = 'created' AND attempts = 1", where => "server = 'good'"), "$kind: the worker serves others");
	ok($node->wait_for_table("status = 'in_doubt'", where => "server = 'flooded'"), "$kind: and has an end itself");
	$node->reload;
}
unlike($node->log_text, qr/server "good" are paused/, 'no other server was paused');

# A proxy of that kind
$proxy->order('endless');
$node->add_server('endless', $api, proxy => $proxy->url, connect_timeout => '2s');
is($node->try(call_sql(server => 'endless'))->{error}{sqlstate}, '08001', 'a proxy that answers without end: a call has an end');
$node->safe_psql('postgres', insert_sql(server => 'endless', stream_name => 'endless') . insert_sql(server => 'good', stream_name => \"'endless ' || i", rows => 10));
ok($node->wait_for_table("status = 'created' AND attempts = 1", where => "server = 'good'"), 'and the worker serves others');
ok($node->wait_for_log(qr/server "endless" are paused for 5 s/), 'and has an end itself');
is($api->complaints, '', 'the stand-in has nothing to complain of');

done_testing();
