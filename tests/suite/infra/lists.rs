//! Calls that no role of the registry has a right to: those of a person, and those of this test.

/// The calls that list everything that could exist, and a text that an answer contains once for
/// each thing.
pub(super) const LISTS: [(&str, &str, &str, &str); 16] = [
    ("dynamodb", "DynamoDB_20120810.ListTables", "{}", "\"stile"),
    ("dynamodb", "DynamoDB_20120810.ListTables", "{}", "\"tfstate-"),
    ("s3", "GET /", "", "<Bucket>"),
    ("lambda", "GET /2015-03-31/functions", "", "\"FunctionArn\""),
    ("apigateway", "GET /v2/apis", "", "\"apiId\""),
    ("kms", "TrentService.ListAliases", "{}", "alias/stile"),
    ("kms", "TrentService.ListAliases", "{}", "alias/tfstate-"),
    ("resource-groups", "POST /groups-list", "{}", "\"GroupName\""),
    ("logs", "Logs_20140328.DescribeLogGroups", "{}", "\"logGroupName\""),
    ("events", "AWSEvents.ListRules", "{}", "\"Arn\""),
    ("events", "AWSEvents.ListEventBuses", "{\"NamePrefix\": \"stile\"}", "\"Arn\""),
    ("scheduler", "GET /schedules", "", "\"Arn\""),
    ("iam", "ListRoles 2010-05-08", "", "<RoleName>"),
    ("sns", "ListTopics 2010-03-31", "", "<TopicArn>"),
    ("monitoring", "DescribeAlarms 2010-08-01", "", "<AlarmName>"),
    ("route53", "GET /2013-04-01/hostedzone", "", "<HostedZone>"),
];

/// Other calls of `stile-admin store init` and `stile-broker check`, with the rights of the person
/// who runs them.
pub(super) const BY_HAND: [&str; 13] = [
    "dynamodb:CreateTable",
    "dynamodb:DescribeTable",
    "dynamodb:UpdateTimeToLive",
    "kms:CreateAlias",
    "kms:CreateKey",
    "kms:DescribeKey",
    "kms:EnableKeyRotation",
    "s3:GetBucketVersioning",
    "s3:PUT ",
    "s3:PUT encryption",
    "s3:PUT lifecycle",
    "s3:PUT publicAccessBlock",
    "s3:PUT versioning",
];

/// The calls of `stile-admin store check --repair`, with the rights of the person who runs it. The
/// policies give them to nobody, so that a stolen role deletes no archive.
pub(super) const BY_HAND_ON: [(&str, &str); 2] = [
    ("s3:DeleteObjectVersion", "BUCKET/modules/*"),
    ("s3:DeleteObjectVersion", "BUCKET/providers/*"),
];
