//! `iotedged --dev`: one device with its policy, and what to type next.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use iotedge_identity::Identity;
use iotedge_model::ThingName;
use iotedge_registry::Registry;

use crate::config::{Config, DEV_POLICY};

/// The thing and the files of the device.
const DEVICE: &str = "device";
/// The device's policy.
const DEVICE_POLICY: &str = "dev-device";

const OPEN: &str = r#"{
  "Version": "2012-10-17",
  "Statement": [
    { "Effect": "Allow", "Action": "iot:*", "Resource": "*" }
  ]
}
"#;

const OWN: &str = r#"{
  "Version": "2012-10-17",
  "Statement": [
    { "Effect": "Allow", "Action": "iot:Connect", "Resource": "*" },
    { "Effect": "Allow", "Action": ["iot:Publish", "iot:Receive", "iot:RetainPublish"],
      "Resource": [
        "arn:aws:iot:REGION:ACCOUNT:topic/demo/*",
        "arn:aws:iot:REGION:ACCOUNT:topic/$aws/things/device/shadow/*"
      ] },
    { "Effect": "Allow", "Action": "iot:Subscribe",
      "Resource": [
        "arn:aws:iot:REGION:ACCOUNT:topicfilter/demo/*",
        "arn:aws:iot:REGION:ACCOUNT:topicfilter/$aws/things/device/shadow/*"
      ] },
    { "Effect": "Allow",
      "Action": ["iot:GetThingShadow", "iot:UpdateThingShadow", "iot:DeleteThingShadow"],
      "Resource": "arn:aws:iot:REGION:ACCOUNT:thing/device" }
  ]
}
"#;

/// Makes what is missing of policies, thing and certificate.
///
/// # Errors
/// What could not be made, and why.
pub fn prepare(config: &Config, identity: &Identity, registry: &Registry) -> Result<(), String> {
    let snapshot = identity.snapshot();
    let scope = &config.gateway.arn;
    let own = OWN
        .replace("REGION", &scope.region)
        .replace("ACCOUNT", &scope.account_id);
    for (name, text) in [(DEV_POLICY, OPEN), (DEVICE_POLICY, own.as_str())] {
        if snapshot.policy(name).is_none() {
            identity
                .create_policy(name, text, false)
                .map_err(|e| e.to_string())?;
        }
    }
    let folder = &config.data_dir;
    write(&folder.join("ca.pem"), &identity.ca_pem(), 0o644)?;
    let (certificate, key) = (folder.join("device.pem"), folder.join("device.key"));
    if certificate.exists() && key.exists() {
        return Ok(());
    }
    let thing = ThingName::new(DEVICE).map_err(|e| e.to_string())?;
    let created = identity
        .create_certificate(DEVICE, &[DEVICE_POLICY.to_owned()])
        .map_err(|e| e.to_string())?;
    registry.ensure_thing(&thing).map_err(|e| e.to_string())?;
    registry
        .attach(&thing, &created.id)
        .map_err(|e| e.to_string())?;
    write(&key, created.key_pem.as_deref().unwrap_or_default(), 0o600)?;
    write(&certificate, &created.certificate_pem, 0o644)
}

/// Written beside and renamed: whatever stands there before keeps neither its mode nor a link.
fn write(file: &Path, text: &str, mode: u32) -> Result<(), String> {
    let failed = |error: std::io::Error| format!("{}: {error}", file.display());
    let fresh = file.with_extension("new");
    match fs::remove_file(&fresh) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(failed(error)),
        _ => {}
    }
    let mut options = fs::OpenOptions::new();
    options.write(true).create_new(true).mode(mode);
    let mut opened = options.open(&fresh).map_err(failed)?;
    opened.write_all(text.as_bytes()).map_err(failed)?;
    opened.sync_all().map_err(failed)?;
    fs::rename(&fresh, file).map_err(failed)
}

/// What to type next, with paths as the folder was given.
pub fn how_to_connect(config: &Config) -> String {
    let folder = config.data_dir.display();
    let control = config.admin.socket.display();
    let ctl = std::env::current_exe()
        .ok()
        .map(|exe| exe.with_file_name("iotedgectl"))
        .filter(|ctl| ctl.exists())
        .map_or_else(|| "iotedgectl".to_owned(), |ctl| ctl.display().to_string());
    let files =
        format!("--cafile {folder}/ca.pem --cert {folder}/device.pem --key {folder}/device.key");
    let curl =
        format!("--cacert {folder}/ca.pem --cert {folder}/device.pem --key {folder}/device.key");
    format!(
        "\
iotedge is running, for this machine only. All that it writes is in {folder}.

Open, without a certificate (everything is allowed):
  mosquitto_sub -h localhost -p 1883 -t 'demo/#' -v
  mosquitto_pub -h localhost -p 1883 -t demo/hello -m hello

As the device, with its certificate (topics demo/... and its own shadow):
  mosquitto_sub -h localhost -p 8883 {files} -q 1 -t 'demo/#' -v
  mosquitto_pub -h localhost -p 8883 {files} -q 1 -t demo/hello -m hello

The device's shadow:
  mosquitto_sub -h localhost -p 8883 {files} -t '$aws/things/device/shadow/#' -v
  mosquitto_pub -h localhost -p 8883 {files} -q 1 -t '$aws/things/device/shadow/update' -m '{{\"state\":{{\"reported\":{{\"color\":\"red\"}}}}}}'
  curl {curl} https://localhost:8443/things/device/shadow

A publish over HTTPS:
  curl {curl} -d hello 'https://localhost:8443/topics/demo/hello?qos=1'

What is going on:
  {ctl} --socket {control} status

"
    )
}
