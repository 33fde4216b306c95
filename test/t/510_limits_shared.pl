# The limit is one for each account, whoever sends: two databases share it; a server option makes it another;
# and when the API refuses a request by it, that one goes again, and all get through.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../perl";
use ScreenshotTaskTest;
use Test::More;

my %accounts = map { $_ => [ "AKID$_", "secretKeyOf$_" ] } qw(SHARED TURNS FIVE REFUSED BACKLOG BEHIND LOOKUPS);
my $api      = LiveApi->new(map { ('--account', join ':', @$_) } values %accounts);
my $node     = ScreenshotTaskTest->start_new('main');

# Two databases and the sessions of both, on one account
my @databases = ('postgres', 'other');
$node->safe_psql('postgres', 'CREATE DATABASE other');
$node->safe_psql('other',    'CREATE EXTENSION screenshot_task');
$node->add_server('shared', $api, dbname => $_, account => $accounts{SHARED}) for @databases;
my @sessions = map {
	my $dbname = $_;
	map { $node->begin(call_sql(server => 'shared', stream_name => "call in $dbname") x 2, dbname => $dbname) } 1 .. 5
} @databases;
$node->safe_psql($_, insert_sql(rows => 30, server => 'shared', stream_name => "row in $_")) for @databases;
is_deeply([ grep { defined } map { $_->end->{error} } @sessions ], [], 'two databases: no call fails');
for my $dbname (@databases)
{
	ok($node->wait_for_table("status = 'created'", dbname => $dbname), "two databases: all requests of $dbname are created");
	is($api->ledger(stream_name => "row in $dbname"),  30, "two databases: once");
	is($api->ledger(stream_name => "call in $dbname"), 10, "two databases: so are the calls");
}
is($api->most_in_a_second(secret_id => 'AKIDSHARED'), 20, 'two databases: the limit is used and kept');
is($api->requests(outcome => 'RequestLimitExceeded'), 0, 'two databases: the API refused none');

# Of two databases that both have more than the limit neither waits long for the other.
$node->add_server('turns', $api, dbname => $_, account => $accounts{TURNS}, requests_per_second => 2) for @databases;
my @backlogs = map { $node->begin(insert_sql(rows => 25, server => 'turns', stream_name => "turn of $_"), dbname => $_) } @databases;
$_->end for @backlogs;
ok($node->wait_for_table("status = 'created'", dbname => $_), "taking turns: all requests of $_ are created") for @databases;
my @turns = map { $_->{stream_name} } $api->requests(secret_id => 'AKIDTURNS', outcome => 'TaskId');
is(@turns, 50, 'taking turns: once');
# One has begun before the other, and one ends after it.
shift @turns while $turns[0] eq $turns[1];
pop @turns while $turns[-1] eq $turns[-2];
my @runs = sort { $b <=> $a } map { length } join('', map { /other/ ? 'o' : 'p' } @turns) =~ /(o+|p+)/g;
cmp_ok($runs[0], '<', 4, 'taking turns: neither has the limit for itself for long');

# A limit of five
$node->add_server('five', $api, account => $accounts{FIVE}, requests_per_second => 5);
my $session = $node->begin(call_sql(server => 'five') x 6);
$node->safe_psql('postgres', insert_sql(rows => 15, server => 'five', stream_name => 'five'));
is_deeply($session->end->{error}, undef, 'a limit of five: no call fails');
ok($node->wait_for_table("status = 'created'"), 'a limit of five: all requests are created');
is($api->requests(secret_id => 'AKIDFIVE', outcome => 'TaskId'), 21, 'a limit of five: twenty-one have arrived');
is($api->most_in_a_second(secret_id => 'AKIDFIVE'), 5, 'a limit of five: no more than five in a second');

# A backlog of the table leaves sessions their part, few or many, and all of the limit is used.
$node->add_server('backlog', $api, account => $accounts{BACKLOG});
for my $callers (1, 8)
{
	my $what = "a backlog, and $callers calling";

	$node->safe_psql('postgres', insert_sql(rows => 400, server => 'backlog', stream_name => "row beside $callers"));
	ok($api->wait_for_requests(40, stream_name => "row beside $callers"), "$what: it is being sent");
	my @calls = map { $node->begin(call_sql(server => 'backlog', stream_name => "call beside $callers") x 5) } 1 .. $callers;
	is_deeply([ grep { defined } map { $_->end->{error} } @calls ], [], "$what: no call fails");
	my $rows = () = $api->requests(stream_name => "row beside $callers");
	cmp_ok($rows, '<', 400, "$what: the backlog is not through when they are");
	cmp_ok($rows, '>', 40, "$what: but has gone on");
	$node->safe_psql('postgres', "SELECT cancel_screenshot_task_request(id) FROM screenshot_task_request WHERE server = 'backlog' AND status = 'pending'");
	ok($node->wait_for_table(q{status IN ('created', 'cancelled')}), "$what: the rest is cancelled");
}
is($api->most_in_a_second(secret_id => 'AKIDBACKLOG'), 20, 'a backlog, and sessions: the limit is used and kept');

# The API refuses a call by its limit: it takes another permit, and others go on.
$node->add_server('refused', $api, account => $accounts{REFUSED});
my @order = (fault => 'error=RequestLimitExceeded', secret_id => 'AKIDREFUSED');
$api->order(@order);
my $result = $node->try(call_sql(server => 'refused', stream_name => 'refused call')
	  . insert_sql(server => 'refused', stream_name => 'row after')
	  . call_sql(server => 'refused', stream_name => 'call after'));
is($result->{error}, undef, 'a call that is refused by the limit is sent again');
ok($node->wait_for_table("status = 'created'", where => "server = 'refused'"), 'so is a request of the table');
is(($api->requests(stream_name => $_))[-1]{outcome}, 'TaskId', "$_: succeeds") for 'refused call', 'row after', 'call after';

# The API refuses requests of the table: none is lost, and none is charged for it.
$api->order(@order, times => 5);
$node->safe_psql('postgres', insert_sql(rows => 20, server => 'refused', stream_name => \"'row ' || i"));
ok($node->wait_for_table("status = 'created' AND attempts = 1", where => "server = 'refused'"), 'all get through in the end');
is($api->requests(secret_id => 'AKIDREFUSED', outcome => 'RequestLimitExceeded'), 1 + 5, 'after five refusals');
is($api->requests(secret_id => 'AKIDREFUSED', outcome => 'TaskId'), 3 + 20, 'once each');

# A request that the API refuses again and again by its limit does not take the permits of others of its account, which start later.
$node->add_server($_, $api, account => $accounts{BEHIND}) for 'refuses', 'takes';
$api->order(fault => 'error=RequestLimitExceeded', stream => 'refused forever', times => 0);
$node->safe_psql('postgres', insert_sql(server => 'refuses', stream_name => 'refused forever', start_time => \"now() - interval '1 min'", rows => 5));
ok($api->wait_for_requests(20, stream_name => 'refused forever'), 'refused forever: again and again');
$node->safe_psql('postgres', insert_sql(server => 'takes', stream_name => 'behind', rows => 40));
ok($node->wait_for_table("status = 'created'", where => "server = 'takes'"), 'refused forever: others of the account are created');
is($node->safe_psql('postgres', "SELECT count(*) FROM screenshot_task_request WHERE server = 'refuses' AND status <> 'created' AND attempts <= 1"), 5, 'refused forever: while these are not');
my $refused = $api->requests(stream_name => 'refused forever');
ok($api->wait_for_requests($refused + 5, stream_name => 'refused forever'), 'refused forever: and are tried again');
$api->clear_orders;
ok($node->wait_for_table("status = 'created'", where => "server = 'refuses'"), 'refused no more: all are created');
is($api->ledger(stream_name => $_), $_ eq 'behind' ? 40 : 5, "$_: once each") for 'behind', 'refused forever';

# Nor does a lookup that is refused again and again keep others waiting.
$node->set('screenshot_task.reconcile_grace' => '100ms');
$node->add_server('lookups', $api, account => $accounts{LOOKUPS}, requests_per_second => 1, request_timeout => '3s');
$api->order(fault => 'error=InternalError,create', stream => 'in doubt *', action => 'CreateScreenshotTask', times => 2);
$api->order(fault => 'error=RequestLimitExceeded', stream => 'in doubt first', action => 'DescribeScreenshotTask', times => 0);
$node->safe_psql('postgres', insert_sql(server => 'lookups', stream_name => "in doubt $_")) for 'first', 'second';
ok($node->wait_for_table("status = 'created'", where => "stream_name = 'in doubt second'"), 'a lookup that is refused: another one is answered');
is($node->safe_psql('postgres', "SELECT status FROM screenshot_task_request WHERE stream_name = 'in doubt first'"), 'in_doubt', 'a lookup that is refused: while it is not');
$api->clear_orders;
ok($node->wait_for_table("status = 'created'", where => "server = 'lookups'"), 'a lookup that is refused no more: all are created');

is($api->complaints, '', 'the stand-in has nothing to complain of');

done_testing();
