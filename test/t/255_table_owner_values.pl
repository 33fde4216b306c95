# Values that the table's owner has put into rows without the constraints are never sent: the request fails, and says why.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../perl";
use ScreenshotTaskTest;
use Test::More;

my $api  = LiveApi->new;
my $node = ScreenshotTaskTest->start_new('main', 'screenshot_task.enabled' => 'off');
my %too_long = map { ($_ => "$_ must be at most 1024 bytes") } qw(stream_name domain_name app_name);
my %changes = (
	(map { ($_ => "$_ = repeat('x', 10000000)") } keys %too_long),
	extension => "extension = repeat('x', 10000000)", template_id => 'template_id = -1', stream_type => 'stream_type = 2');
my %messages = (%too_long,
	extension => 'extension must be at most 65536 bytes', template_id => 'template_id must not be negative', stream_type => 'stream_type must be 0 or 1');

$node->add_server('tencent_live', $api);
$node->safe_psql('postgres', insert_sql(stream_name => $_)) for sort(keys %changes), 'good';
$node->safe_psql('postgres', q{
	DO $$ DECLARE name text; BEGIN
		FOR name IN SELECT conname FROM pg_constraint WHERE conrelid = 'screenshot_task_request'::regclass AND contype = 'c' LOOP
			EXECUTE format('ALTER TABLE screenshot_task_request DROP CONSTRAINT %I', name);
		END LOOP;
	END $$});
my %id = map { ($_->{stream_name} => $_->{id}) } $node->table;
$node->safe_psql('postgres', "UPDATE screenshot_task_request SET $changes{$_} WHERE id = $id{$_}") for keys %changes;
$node->set('screenshot_task.enabled' => 'on');

ok($node->wait_for_table("status = 'created'", where => "id = $id{good}"), 'what is good is sent');
for my $column (sort keys %changes)
{
	ok($node->wait_for_table("status = 'failed'", where => "id = $id{$column}"), "$column: the request fails");
	is($node->safe_psql('postgres', "SELECT error_message FROM screenshot_task_request WHERE id = $id{$column}"), $messages{$column}, "$column: and says why");
}
is(scalar $api->requests(action => 'CreateScreenshotTask'), 1, 'nothing else was sent');
is(scalar $api->ledger(event => 'create'), 1, 'nor made');

done_testing();
