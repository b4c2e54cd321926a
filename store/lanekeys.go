package store

import "strconv"

// The keys of routes and relays, all below the prefix. Owner is dispatch in every row.
// What is marked "truth" has no copy anywhere; the rest can be made again or only shows.
//
//	key                       type    holds                                                  TTL
//	{r:<route>}:conf          hash    the route's secret, sealed (route "default" alone)     none: truth
//	{r:<route>}:l:<lane>      list    pointers `<feed id> <seq> <event>` in journal order    none: truth
//	{r:<route>}:top           hash    shard → last feed id appended and fencing number       none: truth
//	{r:<route>}:ready         list    lanes with work and no carrier                         none: truth
//	{r:<route>}:readyLate     list    the same for late deliveries                           none: truth
//	{r:<route>}:car           hash    lane → carrier `<feed id>/<generation>`                none: truth
//	{r:<route>}:run           zset    lanes that hold a slot, by end of lease                none: truth
//	{r:<route>}:own           hash    running lane → process that runs it                    none
//	{r:<route>}:wait          zset    lanes between two tries, by due time                   none: truth
//	{r:<route>}:alone         hash    waiting lanes that the next arrival makes due          none
//	{r:<route>}:d:<delivery>  hash    record of a delivery, from its first failure on        its maxAge + 7 d; 24 h after its end
//	{r:<route>}:b:<delivery>  string  its frozen body, zstd                                  as the record
//	{r:<route>}:gate          hash    health: see Gate, and the counters                     none: truth
//	{r:<route>}:say           list    health announcements not yet in the journal            none: truth
//	{r:<route>}:log           stream  finished attempts, newest 1,000                        none
//	{r:<route>}:dead          stream  deliveries given up, with their bodies                 trimmed at 7 d and 100,000
//	{sNN}:relay               hash    a shard's relay: owner, fence, until, position         none: truth
//	{dispatch}:sweeper        hash    lease of the sweeper, as {sNN}:relay                   none
//	{dispatch}:procs          zset    processes that deliver, by end of heartbeat            none
//	{dispatch}:work           set     routes that may have work: a hint                      none
//
// All keys of a deleted route end within 7 d.
func (k keys) route(id string) string { return k.prefix + "{r:" + id + "}:" }

func (k keys) routeConf(id string) string           { return k.route(id) + "conf" }
func (k keys) laneList(route, lane string) string   { return k.route(route) + "l:" + lane }
func (k keys) gate(route string) string             { return k.route(route) + "gate" }
func (k keys) say(route string) string              { return k.route(route) + "say" }
func (k keys) attempts(route string) string         { return k.route(route) + "log" }
func (k keys) dead(route string) string             { return k.route(route) + "dead" }
func (k keys) delivery(route, id string) string     { return k.route(route) + "d:" + id }
func (k keys) deliveryBody(route, id string) string { return k.route(route) + "b:" + id }

func (k keys) relay(shard int) string { return k.shard(shard, "relay") }
func (k keys) sweeper() string        { return k.prefix + "{dispatch}:sweeper" }
func (k keys) dispatchers() string    { return k.prefix + "{dispatch}:procs" }
func (k keys) routesWithWork() string { return k.prefix + "{dispatch}:work" }
func shardField(shard int) string     { return strconv.Itoa(shard) }
