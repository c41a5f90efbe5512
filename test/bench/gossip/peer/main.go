// The peer of the gossip bench: members of memberlist with its LAN defaults, any number in this process. It obeys the same JSON lines as
// member.ts: see protocol.ts.
package main

import (
	"bufio"
	"encoding/json"
	"io"
	"log"
	"os"
	"strconv"
	"sync"
	"time"

	"github.com/hashicorp/memberlist"
)

type memberSpec struct{ Name, Address string }

type command struct {
	Op   string
	Mesh struct {
		Seeds []string
		Port  int
	}
	Members []memberSpec
	Names   []string
	Value   int
}

type count struct {
	Alive int `json:"alive"`
	Known int `json:"known"`
}

var (
	mu        sync.Mutex
	published = [][]any{}
	arrivals  = [][]any{}
	deaths    = [][]any{}
)

func now() float64 { return float64(time.Now().UnixMicro()) / 1000 }

// member is one node and what it tells and is told.
type member struct {
	spec    memberSpec
	port    int
	seeds   []string
	list    *memberlist.Memberlist
	value   int
	running bool
}

func (m *member) NodeMeta(int) []byte             { return []byte(strconv.Itoa(m.value)) }
func (m *member) NotifyMsg([]byte)                {}
func (m *member) GetBroadcasts(_, _ int) [][]byte { return nil }
func (m *member) LocalState(bool) []byte          { return nil }
func (m *member) MergeRemoteState([]byte, bool)   {}

func (m *member) learn(node *memberlist.Node) {
	if node.Name == m.spec.Name {
		return
	}
	value, _ := strconv.Atoi(string(node.Meta))
	mu.Lock()
	defer mu.Unlock()
	if m.running {
		arrivals = append(arrivals, []any{m.spec.Name, node.Name, value, now()})
	}
}
func (m *member) NotifyJoin(node *memberlist.Node)   { m.learn(node) }
func (m *member) NotifyUpdate(node *memberlist.Node) { m.learn(node) }
func (m *member) NotifyLeave(node *memberlist.Node) {
	mu.Lock()
	defer mu.Unlock()
	if m.running && node.Name != m.spec.Name {
		deaths = append(deaths, []any{m.spec.Name, node.Name, now()})
	}
}

func (m *member) start() {
	config := memberlist.DefaultLANConfig()
	config.Name = m.spec.Name
	config.BindAddr, config.BindPort = m.spec.Address, m.port
	config.AdvertiseAddr, config.AdvertisePort = m.spec.Address, m.port
	config.Delegate, config.Events = m, m
	config.Logger = log.New(io.Discard, "", 0)
	m.value, m.running = 1, true
	list, err := memberlist.Create(config)
	if err != nil {
		log.Fatal(err)
	}
	m.list = list
	var seeds []string
	for _, seed := range m.seeds {
		if seed != m.spec.Address {
			seeds = append(seeds, seed)
		}
	}
	if len(seeds) > 0 {
		list.Join(seeds)
	}
}

func main() {
	members := map[string]*member{}
	all := func(names []string, act func(*member)) {
		var wait sync.WaitGroup
		for _, name := range names {
			wait.Add(1)
			go func() { defer wait.Done(); act(members[name]) }()
		}
		wait.Wait()
	}
	out := json.NewEncoder(os.Stdout)
	in := bufio.NewScanner(os.Stdin)
	in.Buffer(nil, 64<<20)
	for in.Scan() {
		var c command
		if err := json.Unmarshal(in.Bytes(), &c); err != nil {
			log.Fatal(err)
		}
		var answer any = struct{}{}
		switch c.Op {
		case "start":
			for _, spec := range c.Members {
				m := &member{spec: spec, port: c.Mesh.Port, seeds: c.Mesh.Seeds}
				members[spec.Name] = m
				m.start()
			}
		case "publish":
			all(c.Names, func(m *member) {
				mu.Lock()
				published = append(published, []any{m.spec.Name, c.Value, now()})
				mu.Unlock()
				m.value = c.Value
				// it resolves when the change was broadcast, or after the time given
				go m.list.UpdateNode(10 * time.Second)
			})
		case "stop":
			all(c.Names, func(m *member) {
				mu.Lock()
				m.running = false
				mu.Unlock()
				m.list.Shutdown()
			})
		case "again":
			all(c.Names, func(m *member) { m.start() })
		case "reset":
			mu.Lock()
			published, arrivals, deaths = [][]any{}, [][]any{}, [][]any{}
			mu.Unlock()
		case "report":
			counts := map[string]count{}
			for name, m := range members {
				if m.running {
					counts[name] = count{m.list.NumMembers() - 1, len(m.list.Members()) - 1}
				}
			}
			mu.Lock()
			answer = map[string]any{"members": counts, "published": published, "arrivals": arrivals, "deaths": deaths, "rssMb": 0}
			mu.Unlock()
		}
		if err := out.Encode(answer); err != nil {
			log.Fatal(err)
		}
	}
}
