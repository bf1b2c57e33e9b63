// The work of all peers, for the Functions Framework for Node.js.
exports.upper = (request, response) => {
  const bytes = request.rawBody;
  for (let i = 0; i < bytes.length; i++)
    if (bytes[i] >= 97 && bytes[i] <= 122) bytes[i] -= 32;
  response.type('application/octet-stream').send(bytes);
};

exports.reverse = (request, response) => {
  response.type('application/octet-stream').send(request.rawBody.reverse());
};
