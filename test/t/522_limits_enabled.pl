# The server option "enabled" pauses a server for all: nothing is sent to it, whoever asks, until it is set again.  Then it is sent at once.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../perl";
use ScreenshotTaskTest;
use Test::More;

my $api  = LiveApi->new;
my $node = ScreenshotTaskTest->start_new('main', 'screenshot_task.reconcile_grace' => '100ms', 'screenshot_task.reconcile_spacing' => '300ms');
my $said = qr/LOG:  screenshot tasks for server "tencent_live" are paused by its option "enabled"\n.*HINT:  The pause ends with ALTER SERVER tencent_live OPTIONS \(SET enabled 'true'\)\./;

sub worker { return ($node->rows('SELECT * FROM screenshot_task_worker'))[0] }
sub lines { my $n = () = $node->log_text =~ /$_[0]/g; return $n }
sub set_enabled { $node->safe_psql('postgres', "ALTER SERVER tencent_live OPTIONS (SET enabled '$_[0]')"); return }

$node->add_server('tencent_live', $api, enabled => 'false', request_timeout => '2s');
$node->add_server('other', $api);
$node->safe_psql('postgres', 'CREATE ROLE app LOGIN; GRANT USAGE ON FOREIGN SERVER tencent_live TO app; GRANT INSERT ON screenshot_task_request TO app');
$node->safe_psql('postgres', insert_sql(stream_name => \"'paused ' || i", rows => 3) . insert_sql(stream_name => 'goes', server => 'other')
	  . 'SET ROLE app; ' . insert_sql(stream_name => 'of app'));
ok($node->wait_for_table(q{status = 'created'}, where => q{server = 'other'}), 'a request for another server is sent');
ok(wait_until(sub { (worker()->{paused} // '') eq 'server "tencent_live" by its option "enabled"' }), 'the view shows the pause');
ok(wait_until(sub { worker()->{state} eq 'paused' }), 'as the state of the worker does');
ok(wait_until(sub { lines($said) == 1 }), 'and the log does');

# Other changes, reloads and new requests do not end it.
$node->safe_psql('postgres', q{ALTER SERVER other OPTIONS (ADD language 'zh-CN')});
$node->reload;
$node->safe_psql('postgres', insert_sql(stream_name => 'one more') . insert_sql(stream_name => 'goes as well', server => 'other'));
ok($node->wait_for_table(q{status = 'created'}, where => q{server = 'other'}), 'after another change others are sent');
ok(wait_until(sub { (worker()->{paused} // '') eq 'server "tencent_live" by its option "enabled"' }), 'and it is paused still');
is($node->safe_psql('postgres', q{SELECT count(*) FROM screenshot_task_request WHERE server = 'tencent_live' AND (status <> 'pending' OR attempts > 0 OR error_message IS NOT NULL)}), 0, 'its requests are as they were');
is(lines($said), 1, 'which the log does not say again');

# Calls are refused, and cost nothing; a preview shows what would be sent.
my $n = $api->requests;
my $error = $node->try(call_sql)->{error};
is($error->{sqlstate}, '55000', 'a call fails');
is($error->{message}, 'server "tencent_live" is disabled by its option "enabled"', 'and says why');
is($error->{hint}, q{Have its owner run ALTER SERVER tencent_live OPTIONS (SET enabled 'true').}, 'and what to do');
is($api->requests, $n, 'and sends nothing');

# It ends at once, as often as it is set: other changes are taken in once in five seconds.
set_enabled('true');
ok($node->wait_for_table(q{status = 'created'}), 'once it is enabled all are sent');
is(lines(qr/LOG:  screenshot tasks for server "tencent_live" are no longer paused by its option "enabled"/), 1, 'which the log says');
ok(wait_until(sub { !defined worker()->{paused} }), 'nothing is paused');
is_deeply($node->try(call_sql)->{error}, undef, 'and calls are sent');
for my $turn (1 .. 3)
{
	set_enabled('off');
	$node->safe_psql('postgres', insert_sql(stream_name => "turn $turn"));
	ok(wait_until(sub { lines($said) == 1 + $turn }), "turn $turn: paused");
	set_enabled('on');
	ok($node->wait_for_table(q{status = 'created'}), 'and sent');
}

# Neither is a request in doubt looked up meanwhile.
$api->order(fault => 'close,create', stream => 'lost', action => 'CreateScreenshotTask');
$node->safe_psql('postgres', q{ALTER SYSTEM SET screenshot_task.reconcile_grace = '2s'; SELECT pg_reload_conf()});
$node->safe_psql('postgres', insert_sql(stream_name => 'lost'));
ok($node->wait_for_table(q{status = 'in_doubt'}, where => q{stream_name = 'lost'}), 'a request is in doubt');
$n = $api->requests(action => 'DescribeScreenshotTasks');
set_enabled('false');
ok(wait_until(sub { (worker()->{paused} // '') =~ /^server "tencent_live" by its option "enabled"/m }), 'the server is disabled');
is($api->requests(action => 'DescribeScreenshotTasks'), $n, 'it is not looked up');
is($node->safe_psql('postgres', q{SELECT status FROM screenshot_task_request WHERE stream_name = 'lost'}), 'in_doubt', 'and stays in doubt');
set_enabled('true');
ok($node->wait_for_table(q{status = 'created'}), 'until the server is enabled');
is(scalar(my @tasks = $api->ledger(stream_name => 'lost')), 1, 'there is one task of it');

$node->stop;
done_testing();
