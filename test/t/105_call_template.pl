# describe_screenshot_templates(), create_screenshot_template() and delete_screenshot_template(): what was asked for
# arrives, what the API answers is returned, and each refusal says what to do.

use strict;
use warnings;
use utf8;

use FindBin;
use lib "$FindBin::RealBin/../perl";
use ScreenshotTaskTest;
use Test::More;

my $api  = LiveApi->new('--template', 0);
my $node = ScreenshotTaskTest->start_new('main');
$node->add_server('tencent_live', $api);

sub create_sql
{
	my %template = (name => 'pictures', cos_app_id => 1250000000, cos_bucket => 'bucket', cos_region => 'ap-guangzhou', @_);

	return 'SELECT * FROM create_screenshot_template('
	  . join(', ', map { "$_ => " . literal($template{$_}) } sort keys %template) . ");\n";
}

my $columns = 'template_id, name, snapshot_interval, width, height, porn_flag, cos_app_id, cos_bucket, cos_region, cos_prefix, cos_file_name, description';
my $list = "SELECT $columns FROM describe_screenshot_templates() ORDER BY template_id";

sub fails
{
	my ($sql, $name, %expected) = @_;
	my $error = $node->try($sql)->{error};

	is_deeply({ map { $_ => $error->{$_} } keys %expected }, \%expected, $name);
	return $error;
}

# Made, listed, removed
is_deeply($node->try($list), { rows => [], error => undef }, 'there is no template yet');

my $result = $node->try(create_sql());
my ($made) = $api->ledger(event => 'create_template');
is_deeply($result, { rows => [ [ $made->{template_id}, $made->{request_id} ] ], error => undef }, 'TemplateId and RequestId are the API\'s');
is_deeply($made->{template}, { TemplateName => 'pictures', CosAppId => 1250000000, CosBucket => 'bucket', CosRegion => 'ap-guangzhou',
		SnapshotInterval => 10, Width => 0, Height => 0, PornFlag => 0 }, 'what was not given has the defaults, or is left to the API');

my %all = (name => '截图_é-1', cos_app_id => 9007199254740993, cos_bucket => 'a-1', cos_region => 'eu-frankfurt', snapshot_interval => 300, width => 3000,
	height => 2000, porn_flag => 1, cos_prefix => '/{Year}/"日"\\', cos_file_name => '{StreamID}{Ext}', description => 'é');
is($node->try(create_sql(%all))->{error}, undef, 'all parameters are taken');
(undef, $made) = $api->ledger(event => 'create_template');
my $id = $made->{template_id};
is_deeply($made->{template}, { TemplateName => $all{name}, CosAppId => 9007199254740993, CosBucket => 'a-1', CosRegion => 'eu-frankfurt', SnapshotInterval => 300,
		Width => 3000, Height => 2000, PornFlag => 1, CosPrefix => $all{cos_prefix}, CosFileName => '{StreamID}{Ext}', Description => 'é' }, 'and arrive as they are');
is_deeply($node->try($list)->{rows}, [
		[ $id - 1, 'pictures', 10, 0, 0, 0, 1250000000, 'bucket', 'ap-guangzhou', '', '', '' ],
		[ $id, @all{qw(name snapshot_interval width height porn_flag cos_app_id cos_bucket cos_region cos_prefix cos_file_name description)} ] ],
	'both are listed');
is($node->safe_psql('postgres', 'SELECT count(*) FROM describe_screenshot_templates() WHERE cos_prefix IS NULL AND description IS NULL'), 1, 'what a template lacks is null');

$result = $node->try('SELECT delete_screenshot_template(' . ($id - 1) . ')');
is_deeply($result, { rows => [ [ ($api->ledger(event => 'delete_template'))[0]{request_id} ] ], error => undef }, 'one is removed, with the RequestId of the API');
is_deeply([ map { $_->[0] } @{ $node->try($list)->{rows} } ], [$id], 'the other one is left');
is($api->complaints, '', 'the stand-in has nothing to complain of');

# A database of another encoding
$node->safe_psql('postgres', "CREATE DATABASE latin TEMPLATE template0 ENCODING LATIN1 LOCALE 'C'");
$node->safe_psql('latin', 'CREATE EXTENSION screenshot_task');
$node->add_server('tencent_live', $api, dbname => 'latin');
is_deeply($node->try("SET client_encoding = 'UTF8';" . create_sql(name => 'café'), dbname => 'latin')->{error}, undef, 'LATIN1: a template is made');
is(($api->ledger(event => 'create_template'))[-1]{template}{TemplateName}, 'café', 'LATIN1: its name arrives in UTF-8');
is_deeply($node->try('SELECT name FROM describe_screenshot_templates() ORDER BY template_id', dbname => 'latin')->{rows}, [ ['??_?-1'], ['caf?'] ],
	'LATIN1: what is not ASCII is shown as a question mark');
fails("SET client_encoding = 'UTF8';" . create_sql(name => 'é' x 128), 'a name of 256 bytes', sqlstate => '22023', message => 'name must be at most 255 bytes');
is($node->try("SET client_encoding = 'UTF8';" . create_sql(name => 'é' x 128), dbname => 'latin')->{error}{message}, 'name must be at most 255 bytes',
	'LATIN1: bytes are those of UTF-8');

# Refusals
my $create = 'CreateLiveSnapshotTemplate';
for (
	[ 'FailedOperation.CosBucketNotExist', '22023', qr/^Check cos_bucket, cos_region and cos_app_id\./ ],
	[ 'FailedOperation.CosBucketNotPermission', '55000', qr/^Allow the Live service to write to the bucket/ ],
	[ 'FailedOperation.CosRoleNotExists', '55000', qr/^Authorize the Live service to use Cloud Object Storage/ ])
{
	my ($code, $sqlstate, $hint) = @$_;

	$api->order(fault => "error=$code", action => $create);
	my $error = fails(create_sql(), $code, sqlstate => $sqlstate, message => qq(server "tencent_live" refused the parameters of $create));
	like($error->{hint}, $hint, "$code: hint");
	like($error->{detail}, qr/^\Q$code\E: ordered by a test \(RequestId [-0-9a-f]{36}, TraceId /, "$code: detail");
}
like(fails("SELECT delete_screenshot_template(1)", 'one that does not exist', sqlstate => '22023')->{hint}, qr/^describe_screenshot_templates\(\) lists/, 'one that does not exist: hint');
for (qw(FailedOperation.ConfInUsed InternalError.ConfInUsed))
{
	$api->order(fault => "error=$_", action => 'DeleteLiveSnapshotTemplate');
	is(fails("SELECT delete_screenshot_template($id)", "$_", sqlstate => '55000')->{hint}, 'Remove the rules that use the template first, in the Live console.', "$_: hint");
}
is($node->try("SELECT count(create_screenshot_template('t', 1, 'b', 'r')) FROM generate_series(3, 50)")->{error}, undef, 'there are 50 templates');
is(fails(create_sql(), 'one too many', sqlstate => '53400')->{hint}, 'An account can have 50 templates.  Remove an unused one with delete_screenshot_template().', 'one too many: hint');
is($node->safe_psql('postgres', 'SELECT count(*) FROM describe_screenshot_templates()'), 50, 'all 50 are listed');

# What is not answered may have been done: never sent twice, and said so.
$node->safe_psql('postgres', 'SELECT count(delete_screenshot_template(template_id)) FROM describe_screenshot_templates()');
my $unknown = qq(it is unknown whether server "tencent_live" carried out);
for my $fault (qw(close reset half status=500 not-json empty no-task-id error=InternalError))
{
	my $made = $api->ledger(event => 'create_template');
	my $sent = $api->requests(action => $create);

	$api->order(fault => "$fault,create", action => $create);
	fails(create_sql(), "$fault", sqlstate => '08007', message => "$unknown $create",
		hint => 'Look for the template with describe_screenshot_templates() before repeating the call.');
	is_deeply([ $api->ledger(event => 'create_template') - $made, $api->requests(action => $create) - $sent ], [ 1, 1 ], "$fault: it was sent once, and made once");
}

# Lists that lie, and one that is null
for my $lie ('odd-template=-1', 'odd-template=0', 'odd-template=1.5', 'odd-template="1"', 'odd-template=null', 'odd-template=1e131071', 'odd-list=1', 'no-task-id',
	'nameless-null-list', 'error=InternalError')
{
	$api->order(fault => $lie, action => 'DescribeLiveSnapshotTemplates');
	fails($list, $lie, sqlstate => '08007', message => "$unknown DescribeLiveSnapshotTemplates", hint => 'This action changes nothing; the call can be repeated.');
}
$api->order(fault => 'odd-template=9223372036854775807', action => 'DescribeLiveSnapshotTemplates');
is_deeply($node->try($list)->{rows}, [ [ '9223372036854775807', 'x', ('') x 10 ] ], 'a template of which the API says little');
$api->order(fault => 'null-list', action => 'DescribeLiveSnapshotTemplates');
is_deeply($node->try($list), { rows => [], error => undef }, 'a list that is null is empty');

# Each has the rate limit of its own action.
cmp_ok($api->most_in_a_second(action => $create), '<=', 20, 'no more than 20 of an action in a second');
is(scalar $api->requests(outcome => 'RequestLimitExceeded'), 0, 'none was refused');


# Cancelled at any moment, as any call
$api->order(fault => 'hang', action => $create);
like(fails("SET statement_timeout = '1s';" . create_sql(), 'a call that hangs is cancelled', sqlstate => '57014')->{context},
	qr/^$create on server "tencent_live": the request had been sent, and may be carried out/, 'and says that it was sent');

done_testing();
