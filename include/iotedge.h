/*
 * libiotedge: an MQTT client with TLS and certificates. Link with -liotedge.
 *
 * Nothing runs in the background: network work happens only inside calls. Made by cbindgen of
 * ffi/src/native.rs and ffi/src/native/; do not edit.
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
    // The connection is lost and iotedge_client_process makes it again.
    IOTEDGE_RECONNECTING = -15,
    // The shadow has no such member, or is not known yet.
    IOTEDGE_NOT_FOUND = -16,
    // The member is of another type, or does not fit.
    IOTEDGE_WRONG_TYPE = -17,
    // The server refused the document.
    IOTEDGE_REJECTED = -18,
} iotedge_status;

// What has happened to a shadow.
typedef enum iotedge_shadow_event {
    // Its state is known from now on.
    IOTEDGE_SHADOW_READY = 0,
    // Something is wanted of the device: look at IOTEDGE_DELTA.
    IOTEDGE_SHADOW_DELTA = 1,
    // There is none, or it was deleted. An update makes it.
    IOTEDGE_SHADOW_ABSENT = 2,
} iotedge_shadow_event;

// A part of a shadow.
typedef enum iotedge_section {
    // What the device says of itself.
    IOTEDGE_REPORTED = 0,
    // What is wanted of it.
    IOTEDGE_DESIRED = 1,
    // What is wanted and not reported. Can be read only.
    IOTEDGE_DELTA = 2,
} iotedge_section;

// A client. Several threads may use it. Callbacks run inside iotedge_client_process and inside
// calls that wait for an answer, on the thread that called. A callback may publish, subscribe and
// unsubscribe; it must neither process nor free the client. A client does not live through fork:
// the child may only exit or exec.
typedef struct iotedge_client iotedge_client;

// A thing's shadow, as this program sees it. Used by one thread at a time, that of the client's
// callbacks included.
typedef struct iotedge_shadow iotedge_shadow;

// What a client is made with. iotedge_options_init fills in what has a default.
typedef struct iotedge_options {
    // sizeof(iotedge_options): set by iotedge_options_init.
    size_t size;
    // Host name or address; the server's certificate must be valid for it. Required without
    // socket_path.
    const char *host;
    // Port; 8883.
    uint16_t port;
    // Client id; NULL or empty lets the server choose one.
    const char *client_id;
    // PEM file of the certificates that may have signed the server's. Required without
    // socket_path.
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
    // Unix socket of a gateway on this machine, in place of host, port and certificates: the
    // gateway knows who connects by the process's user. NULL for none.
    const char *socket_path;
    // Topic of what the server publishes when the connection is lost; NULL for none.
    const char *will_topic;
    // Its payload.
    const uint8_t *will_payload;
    // Bytes of its payload.
    size_t will_payload_len;
    // Its QoS: 0, 1 or 2.
    int will_qos;
    // Its RETAIN flag.
    bool will_retain;
    // Whether iotedge_client_process makes a lost connection again, with its subscriptions;
    // false.
    bool auto_reconnect;
    // Milliseconds before the first attempt, doubled before each further one; 1,000.
    uint32_t reconnect_min_ms;
    // The longest wait before an attempt; 60,000.
    uint32_t reconnect_max_ms;
    // Published messages that wait for the server's acknowledgement at a time, at most; 32.
    uint16_t max_in_flight;
    // Bytes of published messages that are not acknowledged yet, at most; 1,048,576.
    size_t max_queued_bytes;
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

// Is told how a message ended: IOTEDGE_OK when the server has acknowledged it (with QoS 0: when it
// is on its way), otherwise why not. A gateway acknowledges when it has stored the message for all
// who shall get it.
typedef void (*iotedge_delivery_callback)(enum iotedge_status status, void *user_data);

// Is told what has happened to a shadow. May call everything but process and free.
typedef void (*iotedge_shadow_callback)(struct iotedge_shadow *shadow,
                                        enum iotedge_shadow_event event,
                                        void *user_data);

// Is told: 1 for an error, 2 for a warning, 3 for what goes well. Called on the thread that is in
// a call of the library; it must not call the client that the text is about.
typedef void (*iotedge_log_callback)(int level, const char *text, void *user_data);

#ifdef __cplusplus
extern "C" {
#endif // __cplusplus

// Fills in the defaults; everything else becomes NULL.
void iotedge_options_init(struct iotedge_options *options);

// The library's version, like "0.1.0".
const char *iotedge_version(void);

// A status in words.
const char *iotedge_status_text(int status);

// Makes a client and puts it where `client` points. Touches neither network nor files; all texts
// are copied.
enum iotedge_status iotedge_client_new(const struct iotedge_options *options,
                                       struct iotedge_client **client);

// Closes what is open and frees the client. Messages that are not acknowledged yet are told to be
// lost. Not from within a callback. NULL is nothing.
void iotedge_client_free(struct iotedge_client *client);

// Connects: TCP, TLS, CONNECT and CONNACK.
enum iotedge_status iotedge_client_connect(struct iotedge_client *client);

// Whether there is a connection, as far as known.
bool iotedge_client_is_connected(const struct iotedge_client *client);

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

// Why the last call of this thread on this client failed, in words; empty when none has. Valid
// until the thread's next call.
const char *iotedge_client_error(const struct iotedge_client *client);

// A descriptor for a loop of the program's own: readable when iotedge_client_process has
// something to do, a keep-alive or an attempt to reconnect included. Call it with a time of 0
// then; only reconnecting makes it wait, as iotedge_client_connect does. The descriptor stays the
// same as long as the client lives. -1 without a client.
int iotedge_client_fd(const struct iotedge_client *client);

// Publishes, and never waits: the message is copied, sent at once or with the next
// iotedge_client_process, and `callback` is told how it ended. While a lost connection is being
// made again messages are kept, as many as max_queued_bytes allows (IOTEDGE_LIMIT_EXCEEDED beyond);
// those with QoS 0 and 1 go with the new connection, those with QoS 2 that were sent already end as
// IOTEDGE_CONNECTION_LOST, since the server may have them.
enum iotedge_status iotedge_client_publish(struct iotedge_client *client,
                                           const char *topic,
                                           const uint8_t *payload,
                                           size_t payload_len,
                                           int level,
                                           bool retain,
                                           iotedge_delivery_callback callback,
                                           void *user_data);

// Publishes and waits until the message has ended, so many milliseconds at most. After
// IOTEDGE_TIMEOUT a message that was not sent yet is not sent any more; one that was may still
// arrive. Not to be mistaken for iotedge_client_publish in a callback: it waits there too.
enum iotedge_status iotedge_publish_wait(struct iotedge_client *client,
                                         const char *topic,
                                         const uint8_t *payload,
                                         size_t payload_len,
                                         int level,
                                         bool retain,
                                         uint32_t timeout_ms);

// How many published messages are not acknowledged yet.
size_t iotedge_client_unacknowledged(const struct iotedge_client *client);

// Subscribes to what a thing's shadow has to say and asks for it. `shadow_name` is NULL for the
// classic shadow. The client must be connected, and have six subscriptions left; a lost connection
// that is made again keeps them. Events come with iotedge_client_process.
enum iotedge_status iotedge_shadow_new(struct iotedge_client *client,
                                       const char *thing,
                                       const char *shadow_name,
                                       iotedge_shadow_callback callback,
                                       void *user_data,
                                       struct iotedge_shadow **shadow);

// Asks for the whole shadow again; IOTEDGE_SHADOW_READY tells when it has come. A connection that
// the client makes again does it by itself.
enum iotedge_status iotedge_shadow_refresh(struct iotedge_shadow *shadow);

// Frees a shadow, and leaves its topics. Updates that were not answered are told to be lost. Not
// from within a callback; before its client. NULL is nothing.
void iotedge_shadow_free(struct iotedge_shadow *shadow);

// The version that is known; 0 before the first.
uint64_t iotedge_shadow_version(const struct iotedge_shadow *shadow);

// Sends what was set, without waiting. `callback` is told the server's answer: IOTEDGE_OK, or
// IOTEDGE_REJECTED, or why it did not get there. Nothing set: IOTEDGE_NOT_FOUND.
enum iotedge_status iotedge_shadow_update(struct iotedge_shadow *shadow,
                                          iotedge_delivery_callback callback,
                                          void *user_data);

// A boolean member. `path` is its keys with slashes between them. IOTEDGE_NOT_FOUND and
// IOTEDGE_WRONG_TYPE leave the value as it was. `section` is an iotedge_section.
enum iotedge_status iotedge_shadow_get_bool(const struct iotedge_shadow *shadow,
                                            int section,
                                            const char *path,
                                            bool *value);

// An integer member.
enum iotedge_status iotedge_shadow_get_int64(const struct iotedge_shadow *shadow,
                                             int section,
                                             const char *path,
                                             int64_t *value);

// A number.
enum iotedge_status iotedge_shadow_get_double(const struct iotedge_shadow *shadow,
                                              int section,
                                              const char *path,
                                              double *value);

// A text member with a NUL byte behind it; IOTEDGE_WRONG_TYPE when it does not fit.
enum iotedge_status iotedge_shadow_get_string(const struct iotedge_shadow *shadow,
                                              int section,
                                              const char *path,
                                              char *buf,
                                              size_t size);

// A member of any type as JSON; "" as `path` for the whole section.
enum iotedge_status iotedge_shadow_get_json(const struct iotedge_shadow *shadow,
                                            int section,
                                            const char *path,
                                            char *buf,
                                            size_t size);

// Sets a member in what iotedge_shadow_update sends: IOTEDGE_REPORTED or IOTEDGE_DESIRED.
enum iotedge_status iotedge_shadow_set_bool(struct iotedge_shadow *shadow,
                                            int section,
                                            const char *path,
                                            bool value);

// Sets an integer member.
enum iotedge_status iotedge_shadow_set_int64(struct iotedge_shadow *shadow,
                                             int section,
                                             const char *path,
                                             int64_t value);

// Sets a number; IOTEDGE_WRONG_TYPE for infinity and NaN, which JSON does not have.
enum iotedge_status iotedge_shadow_set_double(struct iotedge_shadow *shadow,
                                              int section,
                                              const char *path,
                                              double value);

// Sets a text member.
enum iotedge_status iotedge_shadow_set_string(struct iotedge_shadow *shadow,
                                              int section,
                                              const char *path,
                                              const char *value);

// Sets a member of any type from JSON; null removes it.
enum iotedge_status iotedge_shadow_set_json(struct iotedge_shadow *shadow,
                                            int section,
                                            const char *path,
                                            const char *value);

// Removes a member from the shadow.
enum iotedge_status iotedge_shadow_remove(struct iotedge_shadow *shadow,
                                          int section,
                                          const char *path);

// Sets who is told, for all clients of the process: levels up to `max_level`. NULL: nobody, as at
// first.
void iotedge_set_log_callback(int max_level,
                              iotedge_log_callback callback,
                              void *user_data);

#ifdef __cplusplus
}  // extern "C"
#endif  // __cplusplus

#endif  /* IOTEDGE_H */
