# Which requests are compared to find out about one in doubt: those of the same account alone, by whichever roles and
# servers.  Others may say what they like.  And the roles take turns in being looked up.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../perl";
use ScreenshotTaskTest;
use Test::More;

my @mallory = ('AKIDMALLORY', 'theKeyOfMallory');
my @shared  = ('AKIDSHARED', 'theKeyOfTwoRoles');
my $api     = LiveApi->new('--separate', map { ('--account', join ':', @$_) } \@LiveApi::account, \@mallory, \@shared);
my $node    = ScreenshotTaskTest->start_new('main', 'screenshot_task.reconcile_grace' => '100ms', 'screenshot_task.reconcile_spacing' => '300ms');
my %end     = (end_time => \('to_timestamp(' . (time + 7200) . ')'));

for my $role (qw(alice mallory bob carol))
{
	$node->safe_psql('postgres', "CREATE ROLE $role LOGIN; GRANT INSERT ON screenshot_task_request TO $role");
}
add_server('hers',   alice   => \@LiveApi::account);
add_server('theirs', mallory => \@mallory, request_timeout => '60s');
add_server('shared', bob     => \@shared);
add_server('other',  carol   => \@shared);

# A row of another account says that it has the task
ask('hers', alice => 'guessed', 'error=InternalError,create', delay => '3s');
ask('theirs', mallory => 'to be resolved', 'error=InternalError', in_doubt => 1);
my ($task) = $api->ledger(stream_name => 'guessed');
is($node->safe_psql('postgres', "SET ROLE mallory; SELECT resolve_screenshot_task_request(id, '$task->{task_id}') FROM screenshot_task_request WHERE stream_name = 'to be resolved'"), '', 'another role guesses the TaskId');
is($node->safe_psql('postgres', "SELECT task_id FROM screenshot_task_request WHERE status = 'created'"), $task->{task_id}, 'its row has it');
ok(settled('guessed', created => 1), 'the request in doubt is created');
is(made('guessed'), 1, 'it was not sent again');
is($node->safe_psql('postgres', "SELECT task_id FROM screenshot_task_request WHERE stream_name = 'guessed'"), $task->{task_id}, 'and has its task');

# An equal request of another account is being sent, for as long as it takes
$api->order(fault => 'hang', stream => 'held up', secret_id => $mallory[0], times => 0);
insert('theirs', mallory => 'held up');
ok($api->wait_for_requests(1, stream_name => 'held up', secret_id => $mallory[0]), 'an equal request of another account is being sent');
ask('hers', alice => 'held up', 'error=InternalError', secret_id => $LiveApi::account[0]);
ok($node->wait_for_table("status = 'created' AND attempts = 2", where => "stream_name = 'held up' AND server = 'hers'"), 'the request in doubt is sent again');
is($node->safe_psql('postgres', "SELECT status FROM screenshot_task_request WHERE stream_name = 'held up' AND server = 'theirs'"), 'sending', 'while the other is still being sent');

# One of the same account, of another role and server, is not held for nobody's.
insert('shared', bob => 'two');
ok(settled('two', created => 1), 'a request of an account that two roles have');
ask('other', carol => 'two', 'error=InternalError');
ok($node->wait_for_table("status = 'created'", where => "stream_name = 'two'"), 'an equal one of the other role');
is(made('two'), 2, 'the first one\'s task was not taken for the second one\'s');
is($node->safe_psql('postgres', "SELECT count(DISTINCT task_id) FROM screenshot_task_request WHERE stream_name = 'two'"), 2, 'each has its own');

# The same where the other's mapping was changed since, as it is in a rotation of keys.  Its role and server are what they were.
insert('shared', bob => 'rotated');
ok(settled('rotated', created => 1), 'a request');
ask('shared', bob => 'rotated', 'error=InternalError', delay => '1s');
$node->safe_psql('postgres', "ALTER USER MAPPING FOR bob SERVER shared OPTIONS (SET secret_id '$LiveApi::account[0]', SET secret_key '$LiveApi::account[1]')");
ok($node->wait_for_table("status = 'created'", where => "stream_name = 'rotated'"), 'an equal one of the same role is created');
is($node->safe_psql('postgres', "SELECT count(DISTINCT task_id) FROM screenshot_task_request WHERE stream_name = 'rotated'"), 2, 'each has its own');

# Where its mapping is gone, and this worker has never seen it, nobody knows: a person's turn.
insert('other', carol => 'gone');
ok(settled('gone', created => 1), 'a request whose user mapping is dropped then');
$node->safe_psql('postgres', "DROP USER MAPPING FOR carol SERVER other; ALTER USER MAPPING FOR bob SERVER shared OPTIONS (SET secret_id '$shared[0]', SET secret_key '$shared[1]')");
$node->restart;
my $log = $node->log_size;
ask('shared', bob => 'gone', 'error=InternalError');
ok($node->poll_query_until('postgres', "SELECT error_message LIKE 'in doubt; the task found may belong to another request, whose server or user mapping no longer exists. Check which of them has a task, then call resolve_screenshot_task_request(%, TaskId), or with NULL if this one has none.' AND next_attempt_at IS NULL AND status = 'in_doubt' FROM screenshot_task_request WHERE stream_name = 'gone' AND server = 'shared'"), 'an equal one of the account is left to a person');
like($node->log_text($log), qr/LOG:  screenshot task request \d+ remains in doubt: the task found may belong to another request\n.*DETAIL:  The account of the other request is unknown because its server or user mapping no longer exists\.\n.*HINT:  Check which of them has a task, then call resolve_screenshot_task_request\(\)\.\n/, 'and the log says so');
is(made('gone'), 1, 'it was not sent again');

# One role has requests in doubt on many servers, by name before the other's, and is not answered.
my @names = map { sprintf 'a%02d', $_ } 1 .. 12;
$api->order(fault => 'error=InternalError', stream => 'many', action => 'CreateScreenshotTask', times => 0);
$api->order(fault => 'hang', stream => 'many', action => 'DescribeScreenshotTask', times => 0);
add_server($_, mallory => \@mallory, request_timeout => '60s', in_doubt => 'hold') for @names;
for my $n (0 .. $#names)
{
	$node->safe_psql('postgres', "SET ROLE mallory; " . insert_sql(%end, rows => 5, server => $names[$n], stream_name => 'many', template_id => \"$n * 10 + i"));
}
ok($node->wait_for_table("status = 'in_doubt'", where => "stream_name = 'many'"), 'one role: many requests in doubt, of many servers');
$node->safe_psql('postgres', join ';', map { "ALTER SERVER $_ OPTIONS (SET in_doubt 'reconcile')" } @names);
$node->safe_psql('postgres', "UPDATE screenshot_task_request SET sent_at = now() - interval '2 min', next_attempt_at = now() WHERE stream_name = 'many'");
$node->reload;
ok($api->wait_for_requests(8, stream_name => 'many', action => 'DescribeScreenshotTask'), 'they are being looked up');
ask('hers', alice => 'turn', 'error=InternalError,create');
ok(settled('turn', created => 1), 'another role has its turn');
is($node->safe_psql('postgres', "SELECT count(*) FROM screenshot_task_request WHERE stream_name = 'many' AND status <> 'in_doubt'"), 0, 'while the first ones have no answer');
cmp_ok($api->requests(stream_name => 'many', action => 'DescribeScreenshotTask'), '<=', 16, 'and no more than half of the lookups that there may be');
is($api->complaints, '', 'the stand-in has nothing to complain of');

done_testing();

sub add_server
{
	my ($name, $role, $account, %options) = @_;

	$node->add_server($name, $api, account => undef, request_timeout => '1s', %options);
	$node->safe_psql('postgres', "GRANT USAGE ON FOREIGN SERVER $name TO $role; CREATE USER MAPPING FOR $role SERVER $name OPTIONS (secret_id '$account->[0]', secret_key '$account->[1]')");
	return;
}

sub insert
{
	my ($server, $role, $stream) = @_;

	$node->safe_psql('postgres', "SET ROLE $role; " . insert_sql(%end, server => $server, stream_name => $stream, start_time => \"date_trunc('hour', now())"));
	return;
}

# A request whose first attempt is left in doubt.  It is asked about after a while that is long enough to do something
# before (delay), or that a person is waited for (in_doubt).
sub ask
{
	my ($server, $role, $stream, $fault, %params) = @_;

	$node->safe_psql('postgres', "ALTER SERVER $server OPTIONS (SET request_timeout '$params{delay}')") if $params{delay};
	$node->safe_psql('postgres', "ALTER SERVER $server OPTIONS (ADD in_doubt 'hold')") if $params{in_doubt};
	$api->order(fault => $fault, stream => $stream, action => 'CreateScreenshotTask', $params{secret_id} ? (secret_id => $params{secret_id}) : ());
	insert($server, $role, $stream);
	ok($node->poll_query_until('postgres', "SELECT count(*) = 1 FROM screenshot_task_request WHERE stream_name = '$stream' AND server = '$server' AND (status = 'in_doubt' OR misses > 0 OR attempts > 1)"), "$stream: a request is in doubt")
	  if $params{delay} || $params{in_doubt};
	return;
}

sub settled
{
	my ($stream, $status, $n) = @_;

	return $node->poll_query_until('postgres', "SELECT count(*) = $n FROM screenshot_task_request WHERE stream_name = '$stream' AND status = '$status'");
}

sub made { return scalar $api->ledger(stream_name => $_[0], event => 'create') }
