# Many roles send by one server: those that come first go first, whichever role's they are; and roles that may not send,
# or whose requests a trigger refuses, are in nobody's way; nor are more accounts than calls may have limits for.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../perl";
use ScreenshotTaskTest;
use Test::More;

use constant { ROLES => 40, EACH => 8, LOST => 200, REFUSED => 1500, ACCOUNTS => 230 };

my $api  = LiveApi->new;
my $node = ScreenshotTaskTest->start_new('main', 'screenshot_task.enabled' => 'off');

# More roles than the server has room for
$node->add_server('shared', $api, max_in_flight => 8);
$node->safe_psql('postgres', join '', map { make_role("tenant_$_", 'shared') } 1 .. ROLES + 1);
$node->safe_psql('postgres', join '', map { "SET ROLE tenant_$_;" . insert_sql(server => 'shared', stream_name => "of $_", rows => EACH,
	start_time => \"now() + interval '1 h'", end_time => \"now() + interval '2 h'") } 1 .. ROLES);
$node->set('screenshot_task.enabled' => 'on');
ok(wait_until(sub { $api->requests >= 10 }), 'the requests of many roles are being sent');
$node->safe_psql('postgres', 'SET ROLE tenant_' . (ROLES + 1) . ';' . insert_sql(server => 'shared', stream_name => 'urgent',
	start_time => \"now() + interval '1 min'", end_time => \"now() + interval '2 h'"));
my $before = $api->requests;
cmp_ok($before, '<', ROLES * EACH / 2, 'most are still to be sent');
ok($node->wait_for_table("status = 'created'", where => "stream_name = 'urgent'"), 'one that starts soon is created');
my @streams = map { $_->{stream_name} } $api->requests(action => 'CreateScreenshotTask');
my ($place) = grep { $streams[$_] eq 'urgent' } 0 .. $#streams;
cmp_ok($place - $before, '<', 60, 'and has gone before the others');
ok($node->wait_for_table("status = 'created'"), 'all are created');
@streams = map { $_->{stream_name} } $api->ledger(event => 'create');
is(scalar @streams, ROLES * EACH + 1, 'once each');
my %first;
$first{ $streams[$_] } //= $_ for 0 .. $#streams;
cmp_ok($first{'of ' . ROLES}, '>', $first{'of 1'}, 'the last of them after the first');

# Roles whose mapping is gone
$node->set('screenshot_task.enabled' => 'off');
$node->add_server('lost', $api);
$node->safe_psql('postgres', make_role('healthy', 'lost') . 'CREATE USER MAPPING FOR healthy SERVER lost OPTIONS ('
	  . ScreenshotTaskTest::account_options(@LiveApi::account) . ');' . join '', map { make_role("lost_$_", 'lost') } 1 .. LOST);
$node->safe_psql('postgres', join '', map { "SET ROLE lost_$_;" . insert_sql(server => 'lost', stream_name => 'lost') } 1 .. LOST);
$node->safe_psql('postgres', 'DROP USER MAPPING FOR PUBLIC SERVER lost');
my $failed = sub { $node->safe_psql('template1', "SELECT xact_rollback FROM pg_stat_database WHERE datname = 'postgres'") };
my $errors = $failed->();
$node->set('screenshot_task.enabled' => 'on');
$node->safe_psql('postgres', 'SET ROLE healthy;' . insert_sql(server => 'lost', stream_name => \"'healthy ' || i", rows => 5));
ok($node->wait_for_table("status = 'created'", where => "stream_name ~ '^healthy'"), 'a role that may send does');
ok(wait_until(sub { (() = $node->log_text =~ /tasks of role lost_\d+ for server "lost" are paused for/g) >= LOST }), 'the others are paused');
cmp_ok($failed->() - $errors, '<', LOST / 10, 'and no transaction failed for that');
is($node->safe_psql('postgres', "SELECT count(*) FROM screenshot_task_request WHERE stream_name = 'lost' AND status = 'pending' AND attempts = 0"), LOST, 'theirs are as they were');

# A role with a trigger of the owner's that refuses all of its requests, which come first
my $wide = LiveApi->new('--limit', 1000);
$node->add_server('wide', $wide, requests_per_second => 1000);
$node->safe_psql('postgres', make_role($_, 'wide')) for 'refused', 'accepted';
$node->refuse("NEW.requested_by = 'refused'", 'NEW.id');
$node->safe_psql('postgres', 'BEGIN; SET ROLE refused;' . insert_sql(server => 'wide', stream_name => 'refused', rows => REFUSED)
	  . 'SET ROLE accepted;' . insert_sql(server => 'wide', stream_name => \"'accepted ' || i", rows => 30) . 'COMMIT');
ok($node->wait_for_table("status = 'created'", where => "stream_name ~ '^accepted'"), 'a role whose requests nothing refuses sends');
like($node->log_text, qr/screenshot tasks of role refused for server "wide" are paused for 5 s\n.*DETAIL:  triggers on screenshot_task_request prevent updates of its requests\n/,
	'the other one is paused, and the log says why');
is($node->safe_psql('postgres', "SELECT count(*) FROM screenshot_task_request WHERE stream_name = 'refused' AND status = 'pending' AND attempts = 0"), REFUSED, 'its requests are as they were');
cmp_ok(scalar(() = $node->log_text =~ /could not update screenshot task request \d+/g), '<', REFUSED / 2, 'and few of them were tried');
$node->safe_psql('postgres', 'DROP TRIGGER refuse ON screenshot_task_request');
$node->reload;
ok($node->wait_for_table("status = 'created'", where => "server = 'wide'"), 'without the trigger, and after a reload, all are created');
is(scalar $wide->ledger(event => 'create'), REFUSED + 30, 'once each');

# Calls may use 192 of 256 windows.  A worker with more accounts leaves some to them.
my @accounts = map { [ "AKIDMANY$_", "keyOfMany$_" ] } 1 .. ACCOUNTS;
my $many     = LiveApi->new(map { ('--account', join ':', @$_) } [@LiveApi::account], @accounts);
$node->add_server($_, $many, requests_per_second => 1, max_in_flight => 125) for 'many', 'calling';
$node->safe_psql('postgres', join '', map { make_role("many_$_", 'many') . "CREATE USER MAPPING FOR many_$_ SERVER many OPTIONS ("
	  . ScreenshotTaskTest::account_options(@{ $accounts[ $_ - 1 ] }) . ');' } 1 .. ACCOUNTS);
$node->safe_psql('postgres', 'BEGIN;' . join('', map { "SET ROLE many_$_;" . insert_sql(server => 'many', stream_name => 'many', rows => 30,
	start_time => \"now() + i * interval '1 min'", end_time => \"now() + interval '2 h'") } 1 .. ACCOUNTS) . 'COMMIT');
ok($node->poll_query_until('postgres', "SELECT count(DISTINCT role) = @{[ACCOUNTS]} FROM screenshot_task_request WHERE stream_name = 'many' AND attempts > 0"), 'the requests of many accounts are being sent');
is($node->try(call_sql(server => 'calling', stream_name => 'of none of these'))->{error}, undef, 'a call of another account');
cmp_ok($node->safe_psql('postgres', "SELECT count(*) FROM screenshot_task_request WHERE stream_name = 'many' AND status = 'pending'"), '>', 0, 'does not wait for the end of theirs');
$node->safe_psql('postgres', "SELECT cancel_screenshot_task_request(id) FROM screenshot_task_request WHERE stream_name = 'many' AND status = 'pending'");
ok($node->wait_for_table(q{status IN ('created', 'cancelled')}, where => "server = 'many'"), 'which are cancelled');
unlike($node->log_text, qr/cannot keep the rate limits of more than/, 'and there was a limit for each');
is($_->complaints, '', 'the stand-in has nothing to complain of') for $api, $wide, $many;

done_testing();

sub make_role
{
	my ($role, $server) = @_;

	return "CREATE ROLE $role; GRANT INSERT ON screenshot_task_request TO $role; GRANT USAGE ON FOREIGN SERVER $server TO $role;";
}
