//! The actions of AWS that need AWS: understood and checked, so that a mistake in a rule that moves
//! between gateway and cloud is found here too, and then refused by name (2016 guide, "AWS IoT Rule
//! Actions"; today's guide, "AWS IoT rule actions").

use iotedge_sql::SqlVersion;

use super::fields::Fields;
use super::read::Node;
use super::{Reader, RuleProblem};

/// What a key holds.
#[derive(Debug, Clone, Copy)]
enum Kind {
    /// A string, perhaps with templates.
    Text,
    /// An ARN.
    Arn,
    /// True or false.
    Flag,
    /// One of these, unless it is a template.
    Word(&'static [&'static str]),
    /// An object or an array: its inside is AWS's.
    Nested,
}
use Kind::{Arn, Flag, Nested, Text, Word};

/// An action: its name, its keys for people, and what they hold; `true` for those that must be
/// there.
pub(super) struct CloudAction {
    pub(super) name: &'static str,
    known: &'static str,
    keys: &'static [(&'static str, Kind, bool)],
}

const KEY_TYPE: Kind = Word(&["STRING", "NUMBER"]);
const SEARCH: &[(&str, Kind, bool)] = &[
    ("roleArn", Arn, true),
    ("endpoint", Text, true),
    ("index", Text, true),
    ("type", Text, true),
    ("id", Text, true),
];

const ACTIONS: &[CloudAction] = &[
    CloudAction {
        name: "cloudwatchAlarm",
        known: "roleArn, alarmName, stateReason, stateValue",
        keys: &[
            ("roleArn", Arn, true),
            ("alarmName", Text, true),
            ("stateReason", Text, true),
            (
                "stateValue",
                Word(&["OK", "ALARM", "INSUFFICIENT_DATA"]),
                true,
            ),
        ],
    },
    CloudAction {
        name: "cloudwatchLogs",
        known: "roleArn, logGroupName, batchMode",
        keys: &[
            ("roleArn", Arn, true),
            ("logGroupName", Text, true),
            ("batchMode", Flag, false),
        ],
    },
    CloudAction {
        name: "cloudwatchMetric",
        known: "roleArn, metricNamespace, metricName, metricValue, metricUnit, metricTimestamp",
        keys: &[
            ("roleArn", Arn, true),
            ("metricNamespace", Text, true),
            ("metricName", Text, true),
            ("metricValue", Text, true),
            ("metricUnit", Text, true),
            ("metricTimestamp", Text, false),
        ],
    },
    CloudAction {
        name: "dynamoDB",
        known: "roleArn, tableName, hashKeyField, hashKeyValue, hashKeyType, rangeKeyField, \
                rangeKeyValue, rangeKeyType, payloadField, operation",
        keys: &[
            ("roleArn", Arn, true),
            ("tableName", Text, true),
            ("hashKeyField", Text, true),
            ("hashKeyValue", Text, true),
            ("hashKeyType", KEY_TYPE, false),
            ("rangeKeyField", Text, false),
            ("rangeKeyValue", Text, false),
            ("rangeKeyType", KEY_TYPE, false),
            ("payloadField", Text, false),
            ("operation", Word(&["INSERT", "UPDATE", "DELETE"]), false),
        ],
    },
    CloudAction {
        name: "dynamoDBv2",
        known: "roleArn, putItem",
        keys: &[("roleArn", Arn, true), ("putItem", Nested, true)],
    },
    CloudAction {
        name: "elasticsearch",
        known: "roleArn, endpoint, index, type, id",
        keys: SEARCH,
    },
    CloudAction {
        name: "firehose",
        known: "roleArn, deliveryStreamName, separator, batchMode",
        keys: &[
            ("roleArn", Arn, true),
            ("deliveryStreamName", Text, true),
            ("separator", Word(&["\n", "\t", "\r\n", ","]), false),
            ("batchMode", Flag, false),
        ],
    },
    CloudAction {
        name: "iotAnalytics",
        known: "roleArn, channelName, channelArn, batchMode",
        keys: &[
            ("roleArn", Arn, true),
            ("channelName", Text, true),
            ("channelArn", Text, false),
            ("batchMode", Flag, false),
        ],
    },
    CloudAction {
        name: "iotEvents",
        known: "roleArn, inputName, messageId, batchMode",
        keys: &[
            ("roleArn", Arn, true),
            ("inputName", Text, true),
            ("messageId", Text, false),
            ("batchMode", Flag, false),
        ],
    },
    CloudAction {
        name: "iotSiteWise",
        known: "roleArn, putAssetPropertyValueEntries",
        keys: &[
            ("roleArn", Arn, true),
            ("putAssetPropertyValueEntries", Nested, true),
        ],
    },
    CloudAction {
        name: "kafka",
        known: "destinationArn, topic, clientProperties, key, partition, headers",
        keys: &[
            ("destinationArn", Arn, true),
            ("topic", Text, true),
            ("clientProperties", Nested, true),
            ("key", Text, false),
            ("partition", Text, false),
            ("headers", Nested, false),
        ],
    },
    CloudAction {
        name: "kinesis",
        known: "roleArn, streamName, partitionKey",
        keys: &[
            ("roleArn", Arn, true),
            ("streamName", Text, true),
            ("partitionKey", Text, false),
        ],
    },
    CloudAction {
        name: "location",
        known: "roleArn, trackerName, deviceId, latitude, longitude, timestamp",
        keys: &[
            ("roleArn", Arn, true),
            ("trackerName", Text, true),
            ("deviceId", Text, true),
            ("latitude", Text, true),
            ("longitude", Text, true),
            ("timestamp", Nested, false),
        ],
    },
    CloudAction {
        name: "openSearch",
        known: "roleArn, endpoint, index, type, id",
        keys: SEARCH,
    },
    CloudAction {
        name: "s3",
        known: "roleArn, bucketName, key, cannedAcl",
        keys: &[
            ("roleArn", Arn, true),
            ("bucketName", Text, true),
            ("key", Text, true),
            (
                "cannedAcl",
                Word(&[
                    "private",
                    "public-read",
                    "public-read-write",
                    "aws-exec-read",
                    "authenticated-read",
                    "bucket-owner-read",
                    "bucket-owner-full-control",
                    "log-delivery-write",
                ]),
                false,
            ),
        ],
    },
    CloudAction {
        name: "salesforce",
        known: "token, url",
        keys: &[("token", Text, true), ("url", Text, true)],
    },
    CloudAction {
        name: "sns",
        known: "roleArn, targetArn, messageFormat",
        keys: &[
            ("roleArn", Arn, true),
            ("targetArn", Arn, true),
            ("messageFormat", Word(&["JSON", "RAW"]), false),
        ],
    },
    CloudAction {
        name: "sqs",
        known: "roleArn, queueUrl, useBase64",
        keys: &[
            ("roleArn", Arn, true),
            ("queueUrl", Text, true),
            ("useBase64", Flag, false),
        ],
    },
    CloudAction {
        name: "stepFunctions",
        known: "roleArn, stateMachineName, executionNamePrefix",
        keys: &[
            ("roleArn", Arn, true),
            ("stateMachineName", Text, true),
            ("executionNamePrefix", Text, false),
        ],
    },
    CloudAction {
        name: "timestream",
        known: "roleArn, databaseName, tableName, dimensions, timestamp, batchMode",
        keys: &[
            ("roleArn", Arn, true),
            ("databaseName", Text, true),
            ("tableName", Text, true),
            ("dimensions", Nested, true),
            ("timestamp", Nested, false),
            ("batchMode", Flag, false),
        ],
    },
];

/// The action of this name.
pub(super) fn find(name: &str) -> Option<&'static CloudAction> {
    ACTIONS.iter().find(|action| action.name == name)
}

/// Reports what AWS would not take either.
pub(super) fn check<'t>(
    reader: &mut Reader<'t>,
    action: &CloudAction,
    node: &Node<'t>,
    version: SqlVersion,
) {
    let Some(mut fields) = Fields::open(reader, node, action.known, version) else {
        return;
    };
    for (key, kind, needed) in action.keys {
        let found = if *needed {
            fields.need(key)
        } else {
            fields.get(key)
        };
        let Some(node) = found else { continue };
        check_value(&mut fields, &node, *kind);
    }
}

fn check_value<'t>(fields: &mut Fields<'_, 't>, node: &Node<'t>, kind: Kind) {
    match kind {
        Nested => {
            if node.members().is_err() && node.items().is_err() {
                fields.wrong(node, RuleProblem::WrongType("an object or an array"));
            }
        }
        Flag => {
            if node.boolean().is_err() {
                fields.wrong(node, RuleProblem::WrongType("true or false"));
            }
        }
        Text | Arn | Word(_) => {
            let Some(template) = fields.template_of(node) else {
                return;
            };
            let Some(literal) = template.as_literal() else {
                return;
            };
            match kind {
                Arn if !literal.starts_with("arn:") => {
                    fields.wrong(node, RuleProblem::Value("must be an ARN".into()));
                }
                Word(words) if !words.contains(&literal) => {
                    let words: Vec<String> = words.iter().map(|w| format!("{w:?}")).collect();
                    let problem = format!("must be one of {}", words.join(", "));
                    fields.wrong(node, RuleProblem::Value(problem));
                }
                _ => {}
            }
        }
    }
}
