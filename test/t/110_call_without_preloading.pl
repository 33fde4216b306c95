# Without shared_preload_libraries the functions work, each session keeps the limit by itself, and a
# request is kept until there is a worker.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../perl";
use ScreenshotTaskTest;
use Test::More;

my $api  = LiveApi->new;
my $node = ScreenshotTaskTest->start_new('main', shared_preload_libraries => '');

$node->add_server('tencent_live', $api);

my $result = $node->try(join '', map { call_sql(stream_name => "s$_") } 1 .. 45);
is_deeply($result->{error}, undef, 'calls work');
is_deeply([ map { $_->[0] } @{ $result->{rows} } ], [ map { $_->{task_id} } $api->ledger ],
	'each has the TaskId of the API');
cmp_ok($api->most_in_a_second, '<=', 20, 'a session keeps the limit');
is($api->requests(outcome => 'RequestLimitExceeded'), 0, 'the API refused none');

is_deeply($node->try(insert_sql(stream_name => 'later'))->{error}, undef, 'a request is taken');

$node->append_conf('postgresql.conf', "shared_preload_libraries = 'screenshot_task'");
$node->restart;
ok($node->wait_for_table, 'it is sent once there is a worker');
is_deeply(
	[ map { [ @$_{qw(status task_id)} ] } $node->table ],
	[ map { [ 'created', $_->{task_id} ] } $api->ledger(stream_name => 'later') ],
	'once');

done_testing();
