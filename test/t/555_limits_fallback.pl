# A server with a fallback endpoint: what has not been sent goes there while the first one is not reached, and to the first
# again once it is.  What was sent is never sent again, and is looked up at either.  The rate limit is one.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../perl";
use List::Util qw(max);
use ScreenshotTaskTest;
use Test::More;

my ($first, $second) = map { LiveApi->new } 1, 2;
my $ca_file = PostgreSQL::Test::Utils::tempdir('ca') . '/ca.pem';
my $node = ScreenshotTaskTest->start_new('main', 'screenshot_task.reconcile_grace' => '100ms', 'screenshot_task.reconcile_spacing' => '300ms');
my %options = (ca_file => $ca_file, connect_timeout => '3s', request_timeout => '5s');
PostgreSQL::Test::Utils::append_to_file($ca_file, PostgreSQL::Test::Utils::slurp_file($_->ca_file)) for $first, $second;
$node->add_server('tencent_live', $first, %options, fallback_endpoint => $second->endpoint);

sub tasks { return map { scalar $_->ledger(stream_name => $_[0]) } $first, $second }

my $all = "status = 'created' AND attempts = 1";

# While the first is reached, all goes there.
is($node->try(call_sql(stream_name => 'call 1'))->{error}, undef, 'a call');
$node->safe_psql('postgres', insert_sql(stream_name => 'row 1'));
ok($node->wait_for_table($all), 'a row');
is_deeply([ tasks('call 1'), tasks('row 1'), scalar $second->requests ], [ 1, 0, 1, 0, 0 ], 'go to the endpoint');

# It is not reached.
$first->stop;
my $offset = $node->log_size;
is($node->try(call_sql(stream_name => 'call 2') x 3)->{error}, undef, 'calls');
$node->safe_psql('postgres', insert_sql(stream_name => 'row 2', rows => 45));
ok($node->wait_for_table($all), 'rows');
is_deeply([ (tasks('call 2'))[1], (tasks('row 2'))[1] ], [ 3, 45 ], 'go to the fallback endpoint');
is($node->safe_psql('postgres', "SELECT count(DISTINCT task_id) FROM screenshot_task_request WHERE stream_name = 'row 2'"), 45, 'each is one task');
like($node->log_text($offset), qr/LOG:  screenshot tasks for server "tencent_live" are sent to its fallback endpoint for 5 s\n.*DETAIL:  could not connect to "127\.0\.0\.1:$first->{port}"/, 'the log says so, and why');
unlike($node->log_text($offset), qr/are paused/, 'nothing is paused');
cmp_ok($second->most_in_a_second(action => 'CreateScreenshotTask'), '<=', 20, 'within the limit');
is(scalar $second->requests(outcome => 'RequestLimitExceeded'), 0, 'of which nothing is refused');
my ($sent) = $second->requests(stream_name => 'row 2');
is($sent->{headers}{host}, "127.0.0.1:$second->{port}", 'they are signed for that host');

# It is reached again.
$offset = $node->log_size;
$first->start;
ok(wait_until(sub { $node->safe_psql('postgres', insert_sql(stream_name => 'row 3')); sleep 1; (tasks('row 3'))[0] > 0 }), 'once it is reached again, rows go to the first');
ok($node->wait_for_table($all), 'of which none is lost');
is((tasks('row 3'))[0] + (tasks('row 3'))[1], $node->safe_psql('postgres', "SELECT count(*) FROM screenshot_task_request WHERE stream_name = 'row 3'"), 'nor made twice');
like($node->log_text($offset), qr/LOG:  screenshot tasks for server "tencent_live" are sent to its endpoint again\n/, 'the log says so');
is($node->try(call_sql(stream_name => 'call 3'))->{error}, undef, 'a call');
is_deeply([ tasks('call 3') ], [ 1, 0 ], 'goes there, too');

# The limit is one: what the first took in this second, the second does not get.
my @arrived = sort { $a <=> $b } map { $_->{time} } map { $_->requests(action => 'CreateScreenshotTask') } $first, $second;
is(max(map { my $at = $_; scalar grep { $_ >= $at && $_ < $at + 1 } @arrived } @arrived) <= 20, 1, 'both together are within the limit of the account');

# Neither is reached: then it is paused, and calls fail.
$_->stop for $first, $second;
$offset = $node->log_size;
my $error = $node->try(call_sql(stream_name => 'call 4'))->{error};
is_deeply([ @$error{qw(sqlstate message)} ], [ '08001', 'could not reach server "tencent_live" for CreateScreenshotTask' ], 'neither is reached: a call fails');
$node->safe_psql('postgres', insert_sql(stream_name => 'row 4'));
ok(wait_until(sub { $node->log_text($offset) =~ /screenshot tasks for server "tencent_live" are paused for \d+ s\n.*DETAIL:  could not connect to "127\.0\.0\.1:$second->{port}"/ }), 'and rows are paused');
$second->start;
$node->reload;
ok($node->wait_for_table($all), 'the fallback is reached: nothing is lost');
is((tasks('row 4'))[1], 1, 'nor made twice');

# What was sent to the first is not sent to the other, and is looked up there: the same API, by another door.
$first->start;
my $twin = bless { %$first, port => PostgreSQL::Test::Cluster::get_free_port() }, ref $first;
$node->add_server('doors', $first, connect_timeout => '3s', request_timeout => '5s', fallback_endpoint => $twin->endpoint);
$first->order(fault => 'hang,create', stream => 'in doubt');
$node->safe_psql('postgres', insert_sql(server => 'doors', stream_name => 'in doubt'));
ok($first->wait_for_requests(1, stream_name => 'in doubt'), 'a request is sent to the first, which goes away');
$first->stop;
$twin->start;
ok($node->wait_for_table($all), 'its task is found by the other');
is_deeply([ map { scalar @$_ } [ $twin->ledger(stream_name => 'in doubt') ], [ $twin->requests(stream_name => 'in doubt', action => 'CreateScreenshotTask') ] ], [ 1, 1 ], 'it was not sent again');
is_deeply([ map { $_->{task_id} } $twin->ledger(stream_name => 'in doubt') ], [ map { $_->{task_id} } $node->table("stream_name = 'in doubt'") ], 'and is the one that was made');

# A call that was sent to the first, and is not answered, is not made again.
$second->order(fault => 'close,create', stream => 'lost');
$node->add_server('other', $second, %options, fallback_endpoint => $twin->endpoint);
is($node->try(call_sql(server => 'other', stream_name => 'lost'))->{error}{sqlstate}, '08007', 'a call that is not answered');
is_deeply([ scalar $second->requests(stream_name => 'lost'), scalar $twin->requests(stream_name => 'lost') ], [ 1, 0 ], 'is not made again by the other');
is($_->complaints, '', 'the stand-in has nothing to complain of') for $second, $twin;

done_testing();
