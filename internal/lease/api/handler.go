//go:build linux

package api

import (
	"context"
	"errors"
	"io"
	"maps"
	"mime"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/go-kit/log"
	"github.com/go-kit/log/level"

	"github.com/listen-exporter/listen_exporter/internal/guard"
	"github.com/listen-exporter/listen_exporter/internal/lease"
	"github.com/listen-exporter/listen_exporter/internal/wording"
)

const (
	leasesPath = "/api/v1/leases"
	// maxBody limits the body of a request, in bytes. One with all fields has less than 300.
	maxBody = 16 << 10
	// patience is how long a store may take.
	patience = 10 * time.Second
	// retryAfter is for a client that asked while the store was away.
	retryAfter = 5 * time.Second
)

// handler answers requests.
type handler struct {
	leases Leases
	host   string
	logger log.Logger
	// who returns the user who has sent a request.
	who func(*http.Request) (uint32, error)
	// begin reports whether the connection of a request that was read is still open.
	begin func(*http.Request) bool
}

// request is a request that was read whole.
type request struct {
	*http.Request
	body []byte
	uid  uint32
}

// operation does what a request asks for, and returns the status and what is the body of the answer.
type operation func(request) (status int, body any, err error)

// operations returns what there is, by path and method.
func (h *handler) operations() map[string]map[string]operation {
	return map[string]map[string]operation{
		leasesPath:                 {http.MethodGet: h.list, http.MethodPost: h.take},
		leasesPath + "/{id}/renew": {http.MethodPost: h.renew},
		leasesPath + "/{id}":       {http.MethodDelete: h.end},
	}
}

// mux returns the handler of all requests.
func (h *handler) mux() http.Handler {
	mux := http.NewServeMux()
	for path, operations := range h.operations() {
		for method, do := range operations {
			mux.Handle(method+" "+path, h.answer(do))
		}
		allow := strings.Join(slices.Sorted(maps.Keys(operations)), ", ")
		mux.HandleFunc(path, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Allow", allow)
			refuse(w, &Error{Status: http.StatusMethodNotAllowed, Message: "want the method " + allow})
		})
	}
	mux.HandleFunc("/", func(w http.ResponseWriter, _ *http.Request) {
		refuse(w, &Error{Status: http.StatusNotFound, Message: "nothing is here: want " + leasesPath})
	})
	return mux
}

// answer returns a handler that reads a request, does what it asks for, and sends the answer.
func (h *handler) answer(do operation) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var status int
		var body any
		err := guard.Do(func() (err error) {
			read, err := h.read(w, r)
			if err != nil {
				return err
			}
			if !h.begin(r) {
				return http.ErrAbortHandler
			}
			ctx, cancel := context.WithTimeout(r.Context(), patience)
			defer cancel()
			read.Request = r.WithContext(ctx)
			status, body, err = do(read)
			return err
		})
		switch {
		case errors.Is(err, http.ErrAbortHandler):
			panic(http.ErrAbortHandler)
		case err != nil:
			refuse(w, h.refusal(err))
		default:
			write(w, status, body)
		}
	})
}

// read reads a request, and finds out who has sent it.
func (h *handler) read(w http.ResponseWriter, r *http.Request) (request, error) {
	// No page that a browser shows has business here, and a browser knows the password of its user.
	if site := r.Header.Get("Sec-Fetch-Site"); r.Header.Get("Origin") != "" || site != "" && site != "none" {
		return request{}, &Error{Status: http.StatusForbidden, Message: "a page of the web may not ask for leases: want a request without the header Origin"}
	}
	uid, err := h.who(r)
	if err != nil || r.Method == http.MethodGet || r.Method == http.MethodHead {
		return request{r, nil, uid}, err
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
	if long := (*http.MaxBytesError)(nil); errors.As(err, &long) {
		return request{}, &Error{Status: http.StatusRequestEntityTooLarge, Message: "the body is too long: want at most 16 KiB"}
	}
	if err != nil {
		return request{}, &Error{Status: http.StatusBadRequest, Message: "the body does not arrive"}
	}
	if kind, _, _ := mime.ParseMediaType(r.Header.Get("Content-Type")); len(body) > 0 && kind != "application/json" {
		return request{}, &Error{Status: http.StatusUnsupportedMediaType, Message: "the body is of another type: want Content-Type: application/json"}
	}
	return request{r, body, uid}, nil
}

func (h *handler) take(r request) (int, any, error) {
	asked, err := decodeRequest(r.body)
	if err != nil {
		return 0, nil, err
	}
	asked.UID = r.uid
	given, repeated, err := h.leases.Take(r.Context(), asked)
	status := http.StatusCreated
	if repeated {
		status = http.StatusOK
	}
	return status, h.now().lease(given, r.uid), err
}

func (h *handler) renew(r request) (int, any, error) {
	renewed, err := h.one(r, h.leases.Renew)
	return http.StatusOK, renewed, err
}

func (h *handler) end(r request) (int, any, error) {
	ended, err := h.one(r, h.leases.End)
	ended.State = Ended
	return http.StatusOK, ended, err
}

// one does something to the lease that the path names.
func (h *handler) one(r request, do func(ctx context.Context, id string, uid uint32) (lease.Lease, error)) (Lease, error) {
	if len(r.body) > 0 {
		if err := decodeObject(r.body, nil); err != nil {
			return Lease{}, err
		}
	}
	id := r.PathValue("id")
	if len(id) != 32 || strings.Trim(id, "0123456789abcdef") != "" {
		return Lease{}, lease.ErrNoLease
	}
	l, err := do(r.Context(), id, r.uid)
	return h.now().lease(l, r.uid), err
}

// refusal returns the answer for an error.
func (h *handler) refusal(err error) *Error {
	var (
		ready      *Error
		field      *lease.FieldError
		exhausted  *lease.ExhaustedError
		limit      *lease.LimitError
		notAllowed *lease.NotAllowedError
		withdrawn  *lease.WithdrawnError
		panicked   *guard.Panic
	)
	refused := &Error{Message: wording.Public(err)}
	switch {
	case errors.As(err, &ready):
		return ready
	case errors.As(err, &field):
		refused.Status, refused.Field = http.StatusBadRequest, field.Field
	case errors.As(err, &exhausted):
		refused.Status, refused.Exhausted = http.StatusConflict, h.now().exhausted(exhausted)
	case errors.As(err, &limit):
		refused.Status = http.StatusTooManyRequests
	case errors.As(err, &notAllowed), errors.As(err, &withdrawn), errors.Is(err, lease.ErrNotYours):
		refused.Status = http.StatusForbidden
	case errors.Is(err, lease.ErrNoLease):
		refused.Status = http.StatusNotFound
	case errors.Is(err, lease.ErrAway), errors.Is(err, context.DeadlineExceeded), errors.Is(err, context.Canceled):
		refused.Status, refused.RetryAfter = http.StatusServiceUnavailable, retryAfter
	default:
		refused.Status = http.StatusInternalServerError
		stack := ""
		if errors.As(err, &panicked) {
			stack = string(panicked.Stack())
		}
		level.Error(h.logger).Log("msg", "cannot answer a request for leases", "err", err, "stack", stack)
	}
	return refused
}

func refuse(w http.ResponseWriter, refused *Error) {
	if refused.Status == http.StatusUnauthorized {
		w.Header().Set("WWW-Authenticate", "Basic")
	}
	if refused.RetryAfter > 0 {
		w.Header().Set("Retry-After", strconv.Itoa(int(refused.RetryAfter.Seconds())))
	}
	write(w, refused.Status, refused)
}
