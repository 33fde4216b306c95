# A limit is kept for an endpoint, a secret id and its key: who knows another's secret id takes nothing of its limit,
# and slows nothing down, be it with a made-up key or with a server of his own that answers what he likes.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../perl";
use ScreenshotTaskTest;
use Test::More;

use constant ROWS => 60;

my @account = @LiveApi::account;
my @second  = ($account[0] . '2', 'theSecondKeyOfTheAccount');
my $api     = LiveApi->new(map { ('--account', join ':', @$_) } \@account, \@second);
my $his     = LiveApi->new('--account', join ':', $account[0], 'aKeyThatHeMadeUp');
my $node    = ScreenshotTaskTest->start_new('main');

$node->add_server('good', $api, account => \@account);
$node->add_server('made_up', $api, account => [ $account[0], 'aKeyThatHeMadeUp' ]);
$node->add_server('his', $his, account => [ $account[0], 'aKeyThatHeMadeUp' ]);
$node->add_server('same_key', $his, account => \@account);
$his->order(fault => 'error=RequestLimitExceeded', action => 'CreateScreenshotTask', times => 0);

# Requests and calls of all of them, while the good one has as many as its limit lets through
my @calls = map { $node->begin("SET statement_timeout = '20s';" . call_sql(server => $_, stream_name => 'his call')) } (qw(his same_key)) x 3;
my $made_up = call_sql(server => 'made_up', stream_name => 'made up') =~ s/^SELECT \* FROM|;$//gr;
my @made_up = map { $node->begin("DO \$\$ BEGIN FOR i IN 1..60 LOOP
	BEGIN PERFORM $made_up; EXCEPTION WHEN invalid_authorization_specification THEN END;
END LOOP; END \$\$; SELECT 'all refused'") } 1 .. 3;
$node->safe_psql('postgres', insert_sql(server => $_, rows => 20, stream_name => "row of $_")) for qw(his made_up same_key);
ok($his->wait_for_requests(4, outcome => 'RequestLimitExceeded'), 'his server refuses by its limit');
$node->safe_psql('postgres', insert_sql(server => 'good', rows => ROWS, stream_name => 'good'));
ok($node->wait_for_table("status = 'created'", where => "server = 'good'"), 'the requests with the right key are created');
is(scalar $api->requests(stream_name => 'good'), ROWS, 'once each');
unlike($node->safe_psql('postgres', 'SELECT paused FROM screenshot_task_worker'), qr/"good"/, 'nothing is paused for them');
is($node->safe_psql('postgres', "SELECT throttled FROM screenshot_task_stat WHERE server = 'good'"), 0, 'they were not throttled');
is($_->end->{rows}[0][0], 'all refused', 'a made-up key is refused') for @made_up;
is($_->end->{error}{sqlstate}, '57014', 'who is throttled waits until his time is over') for @calls;

is($api->most_in_a_second(stream_name => 'good'), 20, 'all of the limit was theirs');
cmp_ok($api->most_in_a_second, '>', 20, 'beside those with the made-up key');

# Two keys of one account are two limits.
$node->add_server('second', $api, account => \@second);
$node->safe_psql('postgres', insert_sql(server => $_, rows => ROWS, stream_name => "two keys")) for qw(good second);
ok($node->wait_for_table("status = 'created'", where => "stream_name = 'two keys'"), 'two keys of an account');
cmp_ok($api->most_in_a_second(stream_name => 'two keys'), '>', 20, 'two keys of an account have a limit each');
is($api->most_in_a_second(stream_name => 'two keys', secret_id => $account[0]), 20, 'which is kept');
is($api->complaints, '', 'the stand-in has nothing to complain of');

done_testing();
