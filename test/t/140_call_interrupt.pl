# A call ends at once when it is cancelled, terminated or timed out, wherever it waits; its error says
# whether the request had been sent; and the session or the server goes on.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../perl";
use ScreenshotTaskTest;
use Test::More;
use Time::HiRes qw(time);

use constant SOON => 15;        # seconds; what ends by itself takes far longer

my $api  = LiveApi->new;
my $node = ScreenshotTaskTest->start_new('main');

$node->add_server('tencent_live', $api, request_timeout => '5min', connect_timeout => '60s');
$node->add_server('slow', $api, requests_per_second => 1);

my $sent     = 'CreateScreenshotTask on server "tencent_live": the request had been sent, and may be carried out (TraceId SENT)';
my $not_sent = 'CreateScreenshotTask on server "tencent_live": nothing had been sent';

# statement_timeout, wherever the call is
timed_out_while('there is no answer', $sent, sub { call_sql(stream_name => "fault:hang#$_[0]") });
timed_out_while('the TLS handshake hangs', $not_sent,
	sub { $api->order(fault => 'hang-handshake'); return call_sql(stream_name => "handshake $_[0]") });
timed_out_while('there is no slot', $not_sent =~ s/tencent_live/slow/r,
	sub { return call_sql(server => 'slow') . call_sql(server => 'slow', stream_name => "slot $_[0]") });

# pg_cancel_backend()
my $began  = time;
my @before = counted();
my $result = interrupted('pg_cancel_backend', 'cancel');
ended_by($result, '57014', 'canceling statement due to user request', $sent, 'pg_cancel_backend()');
cmp_ok(time - $began, '<', SOON, 'pg_cancel_backend(): in time');
is($result->{rows}[0][0], ($api->ledger(stream_name => 'after cancel'))[0]{task_id},
	'the next call of the session succeeds');
is_deeply([ counted() ], [ $before[0] + 2, $before[1] + 1 ], 'both calls are counted, and one of them as failed');

# pg_terminate_backend()
$began  = time;
$result = interrupted('pg_terminate_backend', 'terminate');
is($result->{error}{severity}, 'FATAL', 'pg_terminate_backend() ends the session');
ended_by($result, '57P01', 'terminating connection due to administrator command', $sent, 'pg_terminate_backend()');
cmp_ok(time - $began, '<', SOON, 'pg_terminate_backend(): in time');

# A cancel is not an error that WHEN OTHERS catches
$result = $node->try("SET statement_timeout = '200ms'; DO \$\$ BEGIN PERFORM "
	  . call_sql(stream_name => 'fault:hang#others') =~ s/^SELECT \* FROM//r
	  . "EXCEPTION WHEN OTHERS THEN RAISE EXCEPTION 'swallowed'; END \$\$");
is($result->{error}{sqlstate}, '57014', 'WHEN OTHERS does not swallow a cancel');

# A session that hangs is not in the way of DROP DATABASE ... elsewhere
my $hanging = $node->begin("SET statement_timeout = '1min';" . call_sql(stream_name => 'fault:hang#drop'));
$api->wait_for_requests(1, stream_name => 'fault:hang#drop');
$began = time;
$node->safe_psql('postgres', 'CREATE DATABASE other');
$node->safe_psql('postgres', 'DROP DATABASE other');
cmp_ok(time - $began, '<', 45, 'a call that hangs does not hold up DROP DATABASE');

# Nothing crashed, and no call was repeated
is_deeply([ map { scalar $api->requests(stream_name => "fault:hang#$_") } qw(cancel terminate drop) ],
	[ 1, 1, 1 ], 'each request was sent once');
unlike($node->log_text, qr/terminated by signal|PANIC|TRAP/, 'no process crashed');

# A shutdown, last
$began = time;
$node->stop('fast');
cmp_ok(time - $began, '<', SOON, 'a fast shutdown ends a call');
$result = $hanging->end;
ended_by($result, '57P01', 'terminating connection due to administrator command', $sent, 'a fast shutdown');

done_testing();

sub counted { return map { $_ + 0 } split /\|/, $node->safe_psql('postgres', q{SELECT calls, failed_calls FROM screenshot_task_stat WHERE server = 'tencent_live'}) }

# The context of an error, with SENT in the place of the trace id of a request that arrived
sub traced
{
	my ($result) = @_;
	my $context  = $result->{error}{context} // '';
	my %known    = map { ($_ => 1) } $api->trace_ids;

	return $context =~ s/TraceId \K(\S+)(?=\))/$known{$1} ? 'SENT' : $1/re;
}

# Run SQL under a statement_timeout.  A busy machine may let it pass before the call is where it is to be
# caught; then it is tried again.
sub timed_out_while
{
	my ($where, $context, $sql) = @_;
	my ($result, $seconds);

	for my $try (1 .. 20)
	{
		my $began = time;
		$result = $node->try("SET statement_timeout = '200ms';" . $sql->($try)
			  . "RESET statement_timeout;" . call_sql(stream_name => "after $where $try"));
		$seconds = time - $began;
		is($api->ledger(stream_name => "after $where $try"), 1, "while $where: the next call of the session succeeds");
		last if $result->{error} && traced($result) eq $context;
	}
	ended_by($result, '57014', 'canceling statement due to statement timeout', $context, "statement_timeout while $where");
	cmp_ok($seconds, '<', SOON, "statement_timeout while $where: in time");
	return;
}

sub ended_by
{
	my ($result, $sqlstate, $message, $context, $label) = @_;
	my $error = $result->{error};

	is_deeply([ @$error{qw(sqlstate message)} ], [ $sqlstate, $message ], "$label: error");
	is(traced($result), $context, "$label: context");
	return;
}

# Call a function on the backend of a call that hangs, which is to call once more after that.
sub interrupted
{
	my ($function, $name) = @_;
	my $stream  = "fault:hang#$name";
	my $session = $node->begin("SET application_name = '$name';"
		  . call_sql(stream_name => $stream) . call_sql(stream_name => "after $name"));

	$api->wait_for_requests(1, stream_name => $stream);
	$node->safe_psql('postgres', "SELECT $function(pid) FROM pg_stat_activity WHERE application_name = '$name'");
	return $session->end;
}
