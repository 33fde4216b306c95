# A connection on which a request got no answer is not given another one, even while others are waiting on it; and one
# that is always in use is retired after ten minutes.  Over HTTP/2, where requests share a connection.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../perl";
use PostgreSQL::Test::Utils;
use ScreenshotTaskTest;
use Test::More;

my $api  = LiveApi->new;
my $node = ScreenshotTaskTest->start_new('main', 'screenshot_task.reconcile_grace' => '100ms', 'screenshot_task.reconcile_spacing' => '100ms');

# The first one is not answered; the second is, after the first has timed out.
$node->add_server('tencent_live', $api, request_timeout => '10s');
$api->order(fault => 'hang', stream => 'lost', times => 1);
$api->order(fault => 'delay=8', stream => 'late', times => 1);
$node->safe_psql('postgres', insert_sql(stream_name => 'warm'));
ok($node->wait_for_table("status = 'created'"), 'a connection is there');
$node->safe_psql('postgres', insert_sql(stream_name => 'lost'));
ok($api->wait_for_requests(1, stream_name => 'lost'), 'a request is not answered on it');
sleep 4;
$node->safe_psql('postgres', insert_sql(stream_name => 'late'));
ok($node->poll_query_until('postgres', "SELECT status <> 'sending' FROM screenshot_task_request WHERE stream_name = 'lost'"), 'it times out');
ok($node->wait_for_table("status = 'created'"), 'all are created in the end');
my ($lost) = $api->requests(stream_name => 'lost');
my ($late) = $api->requests(stream_name => 'late');
is($late->{connection}, $lost->{connection}, 'another one was waiting on the same connection');
my @after = grep { $_->{time} > $lost->{time} + 9.5 } $api->requests;
ok(@after > 0, 'others followed');
is_deeply([ grep { $_->{connection} == $lost->{connection} } @after ], [], 'none of them on that connection');

# Ten minutes pass at once, for the server's clock, while a request is waiting.
my $dir = PostgreSQL::Test::Utils::tempdir;
append_to_file("$dir/ahead.c", <<'END');
#define _GNU_SOURCE
#include <dlfcn.h>
#include <sys/stat.h>
#include <time.h>

int
clock_gettime(clockid_t clock, struct timespec *now)
{
	static int	(*real) (clockid_t, struct timespec *);
	struct stat file;

	if (!real)
		real = (int (*) (clockid_t, struct timespec *)) dlsym(RTLD_NEXT, "clock_gettime");
	if (real(clock, now) != 0)
		return -1;
	if (clock == CLOCK_MONOTONIC && stat(AHEAD, &file) == 0)
		now->tv_sec += 601;
	return 0;
}
END
system('cc', '-shared', '-fPIC', "-DAHEAD=\"$dir/ahead\"", '-o', "$dir/ahead.so", "$dir/ahead.c", '-ldl') == 0 or die 'cc failed';
chmod 0755, $dir, "$dir/ahead.so";
$node->stop;
{
	local $ENV{LD_PRELOAD} = "$dir/ahead.so";
	$node->start;
}
$node->safe_psql('postgres', "DELETE FROM screenshot_task_request; ALTER SERVER tencent_live OPTIONS (SET request_timeout '5min')");
$api->order(fault => 'hang', stream => 'waiting', times => 1);
$node->safe_psql('postgres', insert_sql(stream_name => 'first'));
ok($node->wait_for_table("status = 'created'", where => "stream_name = 'first'"), 'a connection is there');
$node->safe_psql('postgres', insert_sql(stream_name => 'waiting'));
ok($api->wait_for_requests(1, stream_name => 'waiting'), 'and in use');
$node->safe_psql('postgres', insert_sql(stream_name => 'second'));
ok($node->wait_for_table("status = 'created'", where => "stream_name = 'second'"), 'others use it too');
append_to_file("$dir/ahead", '');
sleep 2;
$node->safe_psql('postgres', insert_sql(stream_name => 'third'));
ok($node->wait_for_table("status = 'created'", where => "stream_name = 'third'"), 'ten minutes later a request is sent');
my %on = map { ($_->{stream_name} // '') => $_->{connection} } $api->requests;
is($on{second}, $on{waiting}, 'before, they shared the connection');
isnt($on{third}, $on{waiting}, 'now it is not used any more');
is($node->safe_psql('postgres', "SELECT status FROM screenshot_task_request WHERE stream_name = 'waiting'"), 'sending', 'by others than who waits on it, and whose time is not over');
is($api->complaints, '', 'the stand-in has nothing to complain of');

done_testing();
