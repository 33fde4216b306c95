# Where there is no slot for a worker the log says so once, by the setting's name; no request is lost for it.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../perl";
use ScreenshotTaskTest;
use Test::More;

my $api  = LiveApi->new;
# PostgreSQL's own logical replication launcher has one slot, ours the other.
my $node = ScreenshotTaskTest->start_new('main', max_worker_processes => 2);
my $full = qr/LOG:  could not start a screenshot_task worker: all background worker slots are in use\n.*DETAIL:  The database with OID \d+ is waiting for a slot\.  Workers will be scheduled in turn\.\n.*HINT:  Raise "max_worker_processes"\.\n/;

ok($node->wait_for_log($full), 'the log says that there is no slot, and which setting to raise');
$node->safe_psql('postgres', 'CREATE DATABASE other');
$node->safe_psql('other',    'CREATE EXTENSION screenshot_task');
for my $dbname ('postgres', 'other')
{
	$node->add_server('tencent_live', $api, dbname => $dbname);
	is_deeply($node->try(insert_sql(stream_name => $dbname), dbname => $dbname)->{error}, undef, "a request is taken in $dbname");
}
sleep 7;    # a start is tried every five seconds
is(scalar(() = $node->log_text =~ /$full/g), 1, 'it says so once');
is($api->requests, 0, 'nothing is sent');
is(($node->table)[0]{status}, 'pending', 'the request is pending');

$node->append_conf('postgresql.conf', 'max_worker_processes = 4');
$node->restart;
ok($node->wait_for_table("status = 'created'", dbname => $_), "the request of $_ is sent once there is a slot") for 'postgres', 'other';
is($api->ledger, 2, 'once each');
is(scalar(() = $node->log_text =~ /$full/g), 1, 'there was nothing more to say');

done_testing();
