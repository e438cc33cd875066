//! What the library promises to programs that are linked already: the names it exports, with their
//! versions, and the layout of every structure that the headers show.
#![allow(clippy::unwrap_used, clippy::expect_used)] // a test fails as its helpers do

use std::process::Command;

use iotedge::compat::*;
use iotedge::native::{iotedge_message, iotedge_options};

#[path = "support/programs.rs"]
mod programs;

use programs::{here, library_dir, run};

/// What `libiotedge.map` promises, as `name@@VERSION`.
fn promised() -> Vec<String> {
    let map = std::fs::read_to_string(here().join("libiotedge.map")).expect("libiotedge.map");
    let mut version = "";
    let mut names = Vec::new();
    for line in map.lines() {
        if let Some(node) = line.strip_suffix(" {") {
            version = node;
        } else if let Some(name) = line.trim().strip_suffix(';').filter(|name| *name != "*") {
            if name != "}" {
                names.push(format!("{name}@@{version}"));
            }
        }
    }
    names.sort();
    names
}

#[test]
fn the_library_exports_what_is_promised_and_no_more() {
    let library = library_dir().join("libiotedge.so");
    let symbols = run(Command::new("nm")
        .args(["-D", "--defined-only", "--with-symbol-versions"])
        .arg(&library));
    let mut names: Vec<String> = String::from_utf8(symbols.stdout)
        .unwrap()
        .lines()
        .filter_map(|line| {
            let mut words = line.split_whitespace().skip(1);
            // Some linkers list the versions too, as absolute symbols.
            let kind = words.next()?;
            words.next().filter(|_| kind != "A").map(str::to_owned)
        })
        .collect();
    names.sort();
    assert_eq!(names, promised(), "ffi/libiotedge.map");
    let header = run(Command::new("objdump").arg("-p").arg(&library));
    let header = String::from_utf8(header.stdout).unwrap();
    assert!(header.contains("SONAME               libiotedge.so.1"));
}

#[test]
fn the_headers_declare_every_exported_function() {
    let include = here().join("../include");
    let mut text = String::new();
    for folder in [include.clone(), include.join("v1")] {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.extension().is_some_and(|extension| extension == "h") {
                text += &std::fs::read_to_string(path).unwrap();
            }
        }
    }
    for name in promised() {
        let (name, _) = name.split_once('@').unwrap();
        assert!(text.contains(&format!("{name}(")), "{name} is in no header");
    }
}

/// Sizes and offsets of all public structures, as the headers have them.
#[test]
fn the_structures_of_the_headers_are_those_that_were_promised_and_those_of_the_library() {
    let out = tempfile::tempdir().unwrap();
    let mut text = String::new();
    for (source, include) in [("layout.c", "../include"), ("v1/layout.c", "../include/v1")] {
        let program = out.path().join("layout");
        run(Command::new("gcc")
            .args(["-std=gnu11", "-O1", "-Wall", "-Wextra", "-Werror", "-I"])
            .arg(here().join(include))
            .arg(here().join("../tests/c").join(source))
            .arg("-o")
            .arg(&program));
        text += &String::from_utf8(run(&mut Command::new(program)).stdout).unwrap();
    }
    if cfg!(target_pointer_width = "64") {
        let committed = here().join("abi-lp64.txt");
        if std::env::var_os("IOTEDGE_WRITE_ABI").is_some() {
            std::fs::write(&committed, &text).unwrap();
        }
        let promised = std::fs::read_to_string(committed).unwrap_or_default();
        assert_eq!(text, promised, "ffi/abi-lp64.txt");
    }
    let of = |what: &str| -> usize {
        let mut values = text.lines().filter_map(|line| line.split_once(": "));
        let found = values.find(|(name, _)| *name == what);
        found
            .unwrap_or_else(|| panic!("{what} is not there"))
            .1
            .parse()
            .unwrap()
    };
    macro_rules! same {
        ($c:literal, $rust:ty $(, $member:literal = $field:ident)*) => {
            assert_eq!(of($c), size_of::<$rust>(), $c);
            $(assert_eq!(
                of(concat!($c, ".", $member)),
                std::mem::offset_of!($rust, $field),
                concat!($c, ".", $member),
            );)*
        };
    }
    same!("AWS_IoT_Client", AwsIotClient);
    same!(
        "IoT_Publish_Message_Params",
        PublishParams,
        "qos" = qos,
        "isRetained" = is_retained,
        "isDup" = is_dup,
        "id" = id,
        "payload" = payload,
        "payloadLen" = payload_len
    );
    same!(
        "IoT_MQTT_Will_Options",
        WillOptions,
        "pTopicName" = topic_name,
        "topicNameLen" = topic_name_len,
        "pMessage" = message,
        "msgLen" = message_len,
        "isRetained" = is_retained,
        "qos" = qos
    );
    same!(
        "IoT_Client_Connect_Params",
        ConnectParams,
        "MQTTVersion" = mqtt_version,
        "pClientID" = client_id,
        "clientIDLen" = client_id_len,
        "keepAliveIntervalInSec" = keep_alive,
        "isCleanSession" = is_clean_session,
        "isWillMsgPresent" = is_will_present,
        "will" = will,
        "pUsername" = username,
        "usernameLen" = username_len,
        "pPassword" = password,
        "passwordLen" = password_len
    );
    same!(
        "IoT_Client_Init_Params",
        InitParams,
        "enableAutoReconnect" = enable_auto_reconnect,
        "pHostURL" = host,
        "port" = port,
        "pRootCALocation" = root_ca,
        "pDeviceCertLocation" = device_cert,
        "pDevicePrivateKeyLocation" = private_key,
        "mqttPacketTimeout_ms" = packet_timeout_ms,
        "mqttCommandTimeout_ms" = command_timeout_ms,
        "tlsHandshakeTimeout_ms" = tls_handshake_timeout_ms,
        "isSSLHostnameVerify" = is_ssl_hostname_verify,
        "disconnectHandler" = disconnect_handler,
        "disconnectHandlerData" = disconnect_handler_data
    );
    same!(
        "struct iotedge_compat_config",
        CompatConfig,
        "size" = size,
        "tx_buf_len" = tx_buf_len,
        "shadow_rx_buf_len" = shadow_rx_buf_len
    );
    same!(
        "ShadowInitParameters_t",
        ShadowInitParameters,
        "port" = port,
        "pRootCA" = root_ca,
        "pClientCRT" = client_crt,
        "pClientKey" = client_key,
        "enableAutoReconnect" = enable_auto_reconnect,
        "disconnectHandler" = disconnect_handler
    );
    same!(
        "ShadowConnectParameters_t",
        ShadowConnectParameters,
        "pMyThingName" = thing_name,
        "pMqttClientId" = client_id,
        "mqttClientIdLen" = client_id_len,
        "deleteActionHandler" = delete_handler
    );
    same!(
        "jsonStruct_t",
        JsonStruct,
        "pKey" = key,
        "pData" = data,
        "dataLength" = data_length,
        "type" = kind,
        "cb" = callback
    );
    same!(
        "AwsIotJobExecutionUpdateRequest",
        UpdateRequest,
        "status" = status,
        "statusDetails" = status_details,
        "includeJobExecutionState" = include_state,
        "includeJobDocument" = include_document,
        "clientToken" = client_token
    );
    same!(
        "AwsIotDescribeJobExecutionRequest",
        DescribeRequest,
        "includeJobDocument" = include_document,
        "clientToken" = client_token
    );
    same!(
        "AwsIotStartNextPendingJobExecutionRequest",
        StartNextRequest,
        "clientToken" = client_token
    );
    same!("Network", Network);
    same!("Timer", Timer);
    same!("TLSConnectParams", TlsConnectParams);
    same!(
        "v1 MQTTwillOptions",
        WillOptionsV1,
        "isRetained" = is_retained,
        "qos" = qos
    );
    same!(
        "v1 MQTTConnectParams",
        ConnectParamsV1,
        "pHostURL" = host,
        "port" = port,
        "pRootCALocation" = root_ca,
        "pPassword" = password,
        "MQTTVersion" = mqtt_version,
        "KeepAliveInterval_sec" = keep_alive,
        "will" = will,
        "mqttCommandTimeout_ms" = command_timeout_ms,
        "isSSLHostnameVerify" = is_ssl_hostname_verify,
        "disconnectHandler" = disconnect_handler
    );
    same!(
        "v1 MQTTMessageParams",
        MessageParamsV1,
        "isRetained" = is_retained,
        "isDuplicate" = is_duplicate,
        "id" = id,
        "pPayload" = payload,
        "PayloadLen" = payload_len
    );
    same!(
        "v1 MQTTCallbackParams",
        CallbackParamsV1,
        "TopicNameLen" = topic_name_len,
        "MessageParams" = message
    );
    same!(
        "v1 MQTTSubscribeParams",
        SubscribeParamsV1,
        "qos" = qos,
        "mHandler" = handler
    );
    same!(
        "v1 MQTTPublishParams",
        PublishParamsV1,
        "MessageParams" = message
    );
    same!(
        "v1 ShadowParameters_t",
        ShadowParametersV1,
        "port" = port,
        "pClientKey" = client_key
    );
    same!(
        "v1 jsonStruct_t",
        JsonStructV1,
        "type" = kind,
        "cb" = callback
    );
    same!(
        "iotedge_options",
        iotedge_options,
        "size" = size,
        "host" = host,
        "port" = port,
        "client_id" = client_id,
        "ca_file" = ca_file,
        "cert_file" = cert_file,
        "key_file" = key_file,
        "alpn" = alpn,
        "username" = username,
        "password" = password,
        "password_len" = password_len,
        "keep_alive_s" = keep_alive_s,
        "clean_session" = clean_session,
        "timeout_ms" = timeout_ms,
        "max_packet_bytes" = max_packet_bytes,
        "max_subscriptions" = max_subscriptions,
        "socket_path" = socket_path,
        "will_topic" = will_topic,
        "will_payload" = will_payload,
        "will_payload_len" = will_payload_len,
        "will_qos" = will_qos,
        "will_retain" = will_retain,
        "auto_reconnect" = auto_reconnect,
        "reconnect_min_ms" = reconnect_min_ms,
        "reconnect_max_ms" = reconnect_max_ms,
        "max_in_flight" = max_in_flight,
        "max_queued_bytes" = max_queued_bytes
    );
    same!(
        "iotedge_message",
        iotedge_message,
        "topic" = topic,
        "topic_len" = topic_len,
        "payload" = payload,
        "payload_len" = payload_len,
        "qos" = qos,
        "retain" = retain,
        "dup" = dup
    );
}
