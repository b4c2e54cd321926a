// Package storetest gives tests a store: on miniredis in process, and on a private
// redis-server that can be killed and started again.
//
// A missing redis-server skips the test, and fails it where
// POSTRIDER_TEST_REQUIRE=all.
package storetest
