//! Policy actions (2016 guide, "AWS IoT Policy Actions"; today's list for the later ones).

use std::fmt;

/// What a principal asks to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Action {
    /// `iot:Connect` on `client/{clientId}`.
    Connect,
    /// `iot:Publish` on `topic/{topic}`.
    Publish,
    /// `iot:Subscribe` on `topicfilter/{filter}`.
    Subscribe,
    /// `iot:Receive` on `topic/{topic}`.
    Receive,
    /// `iot:RetainPublish` on `topic/{topic}`.
    RetainPublish,
    /// `iot:GetRetainedMessage` on `topic/{topic}`.
    GetRetainedMessage,
    /// `iot:ListRetainedMessages` on `*`.
    ListRetainedMessages,
    /// `iot:GetThingShadow` on `thing/{thing}[/{shadow}]`.
    GetThingShadow,
    /// `iot:UpdateThingShadow` on `thing/{thing}[/{shadow}]`.
    UpdateThingShadow,
    /// `iot:DeleteThingShadow` on `thing/{thing}[/{shadow}]`.
    DeleteThingShadow,
    /// `iot:ListNamedShadowsForThing` on `thing/{thing}`.
    ListNamedShadowsForThing,
    /// `iot:DescribeJobExecution` on `thing/{thing}`.
    DescribeJobExecution,
    /// `iot:GetPendingJobExecutions` on `thing/{thing}`.
    GetPendingJobExecutions,
    /// `iot:StartNextPendingJobExecution` on `thing/{thing}`.
    StartNextPendingJobExecution,
    /// `iot:UpdateJobExecution` on `thing/{thing}`.
    UpdateJobExecution,
}

impl Action {
    /// All of them.
    pub const ALL: [Self; 15] = [
        Self::Connect,
        Self::Publish,
        Self::Subscribe,
        Self::Receive,
        Self::RetainPublish,
        Self::GetRetainedMessage,
        Self::ListRetainedMessages,
        Self::GetThingShadow,
        Self::UpdateThingShadow,
        Self::DeleteThingShadow,
        Self::ListNamedShadowsForThing,
        Self::DescribeJobExecution,
        Self::GetPendingJobExecutions,
        Self::StartNextPendingJobExecution,
        Self::UpdateJobExecution,
    ];

    /// As policies spell it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Connect => "iot:Connect",
            Self::Publish => "iot:Publish",
            Self::Subscribe => "iot:Subscribe",
            Self::Receive => "iot:Receive",
            Self::RetainPublish => "iot:RetainPublish",
            Self::GetRetainedMessage => "iot:GetRetainedMessage",
            Self::ListRetainedMessages => "iot:ListRetainedMessages",
            Self::GetThingShadow => "iot:GetThingShadow",
            Self::UpdateThingShadow => "iot:UpdateThingShadow",
            Self::DeleteThingShadow => "iot:DeleteThingShadow",
            Self::ListNamedShadowsForThing => "iot:ListNamedShadowsForThing",
            Self::DescribeJobExecution => "iot:DescribeJobExecution",
            Self::GetPendingJobExecutions => "iot:GetPendingJobExecutions",
            Self::StartNextPendingJobExecution => "iot:StartNextPendingJobExecution",
            Self::UpdateJobExecution => "iot:UpdateJobExecution",
        }
    }

    /// Whether it is about the executions of jobs, which IAM knows under `iotjobsdata:` too.
    pub fn is_job_execution(self) -> bool {
        matches!(
            self,
            Self::DescribeJobExecution
                | Self::GetPendingJobExecutions
                | Self::StartNextPendingJobExecution
                | Self::UpdateJobExecution
        )
    }

    /// From its spelling; letter case does not count (as in IAM).
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL
            .into_iter()
            .find(|a| a.as_str().eq_ignore_ascii_case(text))
    }

    /// The resource type in its ARN (`topic` of `arn:aws:iot:…:topic/a`).
    pub fn resource_type(self) -> &'static str {
        match self {
            Self::Connect => "client",
            Self::Publish
            | Self::Receive
            | Self::RetainPublish
            | Self::GetRetainedMessage
            | Self::ListRetainedMessages => "topic",
            Self::Subscribe => "topicfilter",
            Self::GetThingShadow
            | Self::UpdateThingShadow
            | Self::DeleteThingShadow
            | Self::ListNamedShadowsForThing
            | Self::DescribeJobExecution
            | Self::GetPendingJobExecutions
            | Self::StartNextPendingJobExecution
            | Self::UpdateJobExecution => "thing",
        }
    }
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
