/*
 * libiotedge: an MQTT client with TLS and certificates. Link with -liotedge.
 *
 * Nothing runs in the background: network work happens only inside calls. Made by cbindgen of
 * ffi/src/native.rs; do not edit.
 */

#ifndef IOTEDGE_H
#define IOTEDGE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

// What a call came to. IOTEDGE_OK is 0, everything else is negative.
typedef enum iotedge_status {
    // Done.
    IOTEDGE_OK = 0,
    // An argument is missing or not valid.
    IOTEDGE_INVALID_ARGUMENT = -1,
    // There is no connection.
    IOTEDGE_NOT_CONNECTED = -2,
    // There is a connection already.
    IOTEDGE_ALREADY_CONNECTED = -3,
    // Another operation of this client is in progress.
    IOTEDGE_BUSY = -4,
    // No answer in time.
    IOTEDGE_TIMEOUT = -5,
    // The host is unknown or does not answer.
    IOTEDGE_UNREACHABLE = -6,
    // The CA, certificate or key file cannot be used.
    IOTEDGE_BAD_CERTIFICATE = -7,
    // The TLS handshake failed.
    IOTEDGE_TLS_FAILED = -8,
    // The connection is lost. Connect again, and subscribe again.
    IOTEDGE_CONNECTION_LOST = -9,
    // The server refused the connection.
    IOTEDGE_REFUSED = -10,
    // The server refused the subscription.
    IOTEDGE_SUBSCRIPTION_REFUSED = -11,
    // A packet is too large, or there are too many subscriptions.
    IOTEDGE_LIMIT_EXCEEDED = -12,
    // The server sent what is no MQTT.
    IOTEDGE_PROTOCOL_ERROR = -13,
    // A fault of this library.
    IOTEDGE_INTERNAL_ERROR = -14,
} iotedge_status;

// A client. One operation at a time; callbacks run on the calling thread, inside
// iotedge_client_process and inside calls that wait for an answer. A callback may publish,
// subscribe and unsubscribe.
typedef struct iotedge_client iotedge_client;

// What a client is made with. iotedge_options_init fills in what has a default.
typedef struct iotedge_options {
    // sizeof(iotedge_options): set by iotedge_options_init.
    size_t size;
    // Host name or address; the server's certificate must be valid for it. Required.
    const char *host;
    // Port; 8883.
    uint16_t port;
    // Client id; NULL or empty lets the server choose one.
    const char *client_id;
    // PEM file of the certificates that may have signed the server's. Required.
    const char *ca_file;
    // PEM file of the client's certificate chain; NULL for none.
    const char *cert_file;
    // PEM file of its private key (PKCS#8, SEC1 or PKCS#1); NULL for none.
    const char *key_file;
    // Protocol to ask for by ALPN; NULL for none, and x-amzn-mqtt-ca on port 443.
    const char *alpn;
    // User name; NULL for none.
    const char *username;
    // Password; NULL for none. Needs a user name.
    const uint8_t *password;
    // Bytes of the password.
    size_t password_len;
    // Seconds between two packets; 60. 0 switches it off.
    uint16_t keep_alive_s;
    // Whether the server forgets the session with the connection; true.
    bool clean_session;
    // How long connecting, the handshake and each answer may take; 20,000.
    uint32_t timeout_ms;
    // Bytes of a packet at most, either way; 131,072.
    uint32_t max_packet_bytes;
    // Subscriptions at most; 64.
    uint32_t max_subscriptions;
} iotedge_options;

// A received message. Its memory is valid until the callback returns.
typedef struct iotedge_message {
    // Topic, with a NUL byte behind it.
    const char *topic;
    // Bytes of the topic.
    size_t topic_len;
    // Payload, with a NUL byte behind it.
    const uint8_t *payload;
    // Bytes of the payload.
    size_t payload_len;
    // QoS: 0, 1 or 2.
    int qos;
    // RETAIN flag.
    bool retain;
    // DUP flag.
    bool dup;
} iotedge_message;

// Is given the messages of a subscription.
typedef void (*iotedge_message_callback)(const struct iotedge_message *message,
                                         void *user_data);

#ifdef __cplusplus
extern "C" {
#endif // __cplusplus

// The library's version, like "0.1.0".
const char *iotedge_version(void);

// A status in words.
const char *iotedge_status_text(int status);

// Fills in the defaults; everything else becomes NULL.
void iotedge_options_init(struct iotedge_options *options);

// Makes a client and puts it where `client` points. Touches neither network nor files; all texts
// are copied.
enum iotedge_status iotedge_client_new(const struct iotedge_options *options,
                                       struct iotedge_client **client);

// Closes what is open and frees the client. Not from within a callback. NULL is nothing.
void iotedge_client_free(struct iotedge_client *client);

// Connects: TCP, TLS, CONNECT and CONNACK.
enum iotedge_status iotedge_client_connect(struct iotedge_client *client);

// Whether there is a connection, as far as known.
bool iotedge_client_is_connected(const struct iotedge_client *client);

// Publishes. With QoS 0 it returns when the bytes are handed to the socket, with QoS 1 and 2
// when the server has acknowledged.
enum iotedge_status iotedge_client_publish(struct iotedge_client *client,
                                           const char *topic,
                                           const uint8_t *payload,
                                           size_t payload_len,
                                           int level,
                                           bool retain);

// Subscribes; returns when the server has answered. A second subscription to the same filter
// takes the place of the first.
enum iotedge_status iotedge_client_subscribe(struct iotedge_client *client,
                                             const char *filter,
                                             int level,
                                             iotedge_message_callback callback,
                                             void *user_data);

// Unsubscribes; returns when the server has answered.
enum iotedge_status iotedge_client_unsubscribe(struct iotedge_client *client,
                                               const char *filter);

// Receives, calls callbacks and keeps the connection alive for so many milliseconds, and at
// least once. To be called often: nothing happens between calls.
enum iotedge_status iotedge_client_process(struct iotedge_client *client,
                                           uint32_t timeout_ms);

// Sends DISCONNECT and closes.
enum iotedge_status iotedge_client_disconnect(struct iotedge_client *client);

// Why the last call on this client failed, in words; empty when none has. Valid until the next
// call on it.
const char *iotedge_client_error(const struct iotedge_client *client);

#ifdef __cplusplus
}  // extern "C"
#endif  // __cplusplus

#endif  /* IOTEDGE_H */
