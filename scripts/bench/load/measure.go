package main

import (
	"errors"
	"math"
	"sort"
	"sync"
	"sync/atomic"
	"time"
)

const (
	drainWait  = 30 * time.Second // for what is under way at the end
	silentWait = 20 * time.Second // a system that answers nothing for so long ends the run
)

// produce keeps InFlight requests under way, for the warm-up and then for the measured part. Only what is
// answered before the end counts; nothing is under way between the parts. With a Rate each request is sent
// when it is due, or as soon after that as there is room, and its time runs from when it was due.
func produce(plan Plan, driver Driver, warm func()) (Result, error) {
	if plan.WarmUpS > 0 {
		if _, err := producePart(plan, driver, plan.WarmUpS); err != nil {
			return Result{}, err
		}
	}
	warm()
	return producePart(plan, driver, plan.Seconds)
}

type part struct {
	lock      sync.Mutex
	over      bool
	drained   int
	err       error
	latencies []float64
}

func producePart(plan Plan, driver Driver, seconds float64) (Result, error) {
	var part part
	var senders, pending sync.WaitGroup
	cpu := cpuS()
	start := time.Now()
	end := start.Add(time.Duration(seconds * float64(time.Second)))
	var failed atomic.Bool
	for connection := 0; connection < plan.Connections; connection++ {
		tokens := make(chan struct{}, plan.InFlight/plan.Connections)
		senders.Add(1)
		go func() {
			defer senders.Done()
			silent := time.NewTimer(silentWait)
			for number := connection; !failed.Load(); number += plan.Connections {
				due := plan.due(start, number)
				if due.After(end) {
					return
				}
				time.Sleep(time.Until(due))
				select {
				case tokens <- struct{}{}:
				default: // the timer is touched only where the wait is real
					silent.Reset(silentWait)
					select {
					case tokens <- struct{}{}:
					case <-silent.C:
						part.fail(errors.New("no request was answered for 20 s"))
						failed.Store(true)
						return
					}
				}
				sent := time.Now()
				if sent.After(end) {
					return
				}
				if plan.Rate > 0 {
					sent = due
				}
				pending.Add(1)
				driver.Send(connection, func(err error) {
					part.answered(time.Since(sent), err)
					if err != nil {
						failed.Store(true)
					}
					<-tokens
					pending.Done()
				})
			}
		}()
	}
	senders.Wait()
	took := time.Since(start)
	result := part.finish(plan, took, cpuS()-cpu)
	if !failed.Load() && !waited(&pending, drainWait) {
		part.fail(errors.New("requests were not answered within 30 s"))
	}
	result.Drained = part.drained * plan.BatchRecords
	return result, part.err
}

// due is when the request of this number, of all connections' together, has to be sent.
func (p Plan) due(start time.Time, number int) time.Time {
	if p.Rate == 0 {
		return start
	}
	seconds := float64(number*p.BatchRecords) / float64(p.Rate)
	return start.Add(time.Duration(seconds * float64(time.Second)))
}

func (p *part) answered(took time.Duration, err error) {
	p.lock.Lock()
	defer p.lock.Unlock()
	if err != nil {
		p.err = err
	} else if p.over {
		p.drained++
	} else {
		p.latencies = append(p.latencies, float64(took)/float64(time.Millisecond))
	}
}

func (p *part) fail(err error) {
	p.lock.Lock()
	defer p.lock.Unlock()
	if p.err == nil {
		p.err = err
	}
}

func (p *part) finish(plan Plan, took time.Duration, cpu float64) Result {
	p.lock.Lock()
	defer p.lock.Unlock()
	p.over = true
	sort.Float64s(p.latencies)
	return Result{
		Requests: len(p.latencies),
		Records:  len(p.latencies) * plan.BatchRecords,
		Seconds:  took.Seconds(),
		CpuS:     cpu,
		P50Ms:    percentile(p.latencies, 0.5),
		P99Ms:    percentile(p.latencies, 0.99),
		P999Ms:   percentile(p.latencies, 0.999),
	}
}

// percentile is the nearest rank of values in rising order; nil of nothing.
func percentile(ordered []float64, share float64) *float64 {
	if len(ordered) == 0 {
		return nil
	}
	rank := int(math.Ceil(share*float64(len(ordered)))) - 1
	return &ordered[rank]
}

func waited(group *sync.WaitGroup, limit time.Duration) bool {
	all := make(chan struct{})
	go func() {
		group.Wait()
		close(all)
	}()
	select {
	case <-all:
		return true
	case <-time.After(limit):
		return false
	}
}

// consume reads for the measured time, or until nothing is left; then the last record's time ends it.
// What is taken away by reading has no warm-up: it would be gone.
func consume(plan Plan, driver Driver, warm func()) (Result, error) {
	var records, last atomic.Int64
	stop := make(chan struct{})
	ended := make(chan error, 1)
	begin := func() {
		go func() {
			ended <- driver.Consume(stop, func(count int) {
				records.Add(int64(count))
				last.Store(time.Now().UnixNano())
			})
		}()
	}
	if plan.WarmUpS > 0 {
		begin()
		select {
		case <-time.After(time.Duration(plan.WarmUpS * float64(time.Second))):
		case err := <-ended:
			return Result{}, errors.Join(err, errors.New("nothing was left to read after the warm-up"))
		}
	}
	warm()
	cpu, before, start := cpuS(), records.Load(), time.Now()
	if plan.WarmUpS == 0 {
		begin()
	}
	took := time.Duration(plan.Seconds * float64(time.Second))
	select {
	case <-time.After(took):
		took = time.Since(start)
	case err := <-ended:
		if err != nil {
			return Result{}, err
		}
		took = time.Unix(0, last.Load()).Sub(start)
	}
	count := int(records.Load() - before)
	if count == 0 {
		return Result{}, errors.New("nothing was read")
	}
	return Result{Requests: 0, Records: count, Seconds: took.Seconds(), CpuS: cpuS() - cpu}, nil
}

// wait does nothing for the measured time. Records are the connections that were kept, requests what was asked.
func wait(plan Plan, driver Driver, warm func()) (Result, error) {
	attendant, able := driver.(Attendant)
	if !able {
		return Result{}, errors.New("this system is not asked to hold idle clients")
	}
	begin := attendant.Hold
	if plan.Mode == "attend" {
		begin = attendant.Attend
	}
	count, err := begin()
	if err != nil {
		return Result{}, err
	}
	time.Sleep(time.Duration(plan.WarmUpS * float64(time.Second)))
	warm()
	cpu, before, start := cpuS(), count(), time.Now()
	time.Sleep(time.Duration(plan.Seconds * float64(time.Second)))
	result := Result{Seconds: time.Since(start).Seconds(), CpuS: cpuS() - cpu}
	if plan.Mode == "hold" {
		result.Records = count()
	} else {
		result.Requests = count() - before
	}
	return result, nil
}
