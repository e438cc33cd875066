//! `aws_iot_jobs_*.h`: topics and requests of AWS IoT jobs, and calls that use them.

mod functions;
mod request;
mod topic;

pub use self::functions::*;
pub use self::request::*;
pub use self::topic::*;
