//! Of requests about policies.

use iotedge_model::{CertificateId, Topic};
use serde::{Deserialize, Serialize};

arguments! {
    /// Of [`Request::PolicyCreate`](super::Request::PolicyCreate).
    PolicyCreate {
        /// Its name.
        name: String,
        /// The policy document's text.
        document: String,
        /// Whether one that is there gets a new version.
        #[serde(default)]
        replace: bool,
    }
    /// Names a policy.
    Policy {
        /// Its name.
        name: String,
    }
    /// Of [`Request::PolicyVersionCreate`](super::Request::PolicyVersionCreate).
    PolicyVersionCreate {
        /// The policy's name.
        name: String,
        /// The policy document's text.
        document: String,
        /// Whether it is in force at once.
        #[serde(default)]
        default: bool,
    }
    /// Names a version of a policy.
    PolicyVersion {
        /// The policy's name.
        name: String,
        /// The version's number.
        version: u64,
    }
    /// Of [`Request::PolicyAttach`](super::Request::PolicyAttach) and
    /// [`Request::PolicyDetach`](super::Request::PolicyDetach).
    PolicyTarget {
        /// The policy's name.
        name: String,
        /// The certificate.
        certificate: CertificateId,
    }
    /// Of [`Request::PolicyExplain`](super::Request::PolicyExplain).
    PolicyExplain {
        /// Whose policies: one of a certificate, a user, a listener.
        #[serde(default)]
        certificate: Option<CertificateId>,
        /// A user of the configuration.
        #[serde(default)]
        user: Option<String>,
        /// Whoever comes by a listener without proof; its address as configured.
        #[serde(default)]
        listener: Option<String>,
        /// The client id that it would connect with, `""` for HTTP.
        client_id: String,
        /// As policies spell it: `iot:Publish`.
        action: String,
        /// Topic, filter, client id or `thing[/shadow]`, without the ARN's beginning.
        resource: String,
        /// The peer's address.
        #[serde(default)]
        source_ip: Option<std::net::IpAddr>,
        /// With `iot:Connect`: whether the session outlives the connection.
        #[serde(default)]
        persistent: bool,
        /// With `iot:Connect`: the will's topic.
        #[serde(default)]
        will: Option<Topic>,
        /// The server name of the TLS handshake.
        #[serde(default)]
        domain_name: Option<String>,
        /// Whether it would come over TLS.
        #[serde(default)]
        secure: bool,
    }
}
