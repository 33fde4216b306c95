# More databases than there are places for in shared memory: those that have the extension get them, after a restart
# too; and if they are too many, the log says so once, and the next one is served when one of them is dropped.
#
# Five hundred databases are many to make, so this builds the tree with three places, into a copy of PostgreSQL.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../perl";
use ScreenshotTaskTest;
use Test::More;

my $node = ScreenshotTaskTest->start_new('main', install_path => ScreenshotTaskTest::build('COPT=-DMAX_DATABASES=3'));
my $full = qr/LOG:  cannot serve more than 3 databases of a cluster\n.*DETAIL:  Other databases are served once one of these, or its extension, is dropped\.\n/;

$node->safe_psql('postgres', "CREATE DATABASE db$_") for 1 .. 7;
$node->safe_psql($_, 'CREATE EXTENSION screenshot_task') for 'db4', 'db7';
ok(serves('db4 db7 postgres'), 'those are served that have the extension');
$node->restart;
ok(serves('db4 db7 postgres'), 'after a restart too, though others are found before them');
unlike($node->log_text, $full, 'and that is none too many');

is_deeply($node->try('CREATE EXTENSION screenshot_task', dbname => 'db1')->{error}, undef, 'one that is too many');
ok($node->wait_for_log($full), 'the log says so');
my $offset = $node->log_size;
$node->restart;
ok(serves('db1 db4 postgres'), 'after a restart as many are served as can be');
ok($node->wait_for_log($full, $offset), 'and the log says that there are more');
$node->safe_psql('postgres', 'DROP DATABASE db4');
ok(serves('db1 db7 postgres'), 'when one is dropped, another is served');
$node->safe_psql('db1', 'DROP EXTENSION screenshot_task');
$node->safe_psql('db2', 'CREATE EXTENSION screenshot_task');
ok(serves('db2 db7 postgres'), 'and when one no longer has the extension');
is(scalar(() = $node->log_text($offset) =~ /$full/g), 1, 'the log has said it once');

done_testing();

# Do these databases come to have workers, and no others?
sub serves
{
	my ($databases) = @_;

	return $node->poll_query_until('postgres', q{SELECT string_agg(datname, ' ' ORDER BY datname COLLATE "C") FROM pg_stat_activity WHERE backend_type = 'screenshot_task worker'}, $databases);
}
